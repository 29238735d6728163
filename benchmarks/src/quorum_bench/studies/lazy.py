# SPDX-License-Identifier: Apache-2.0
"""Measure what asking members in turn saves on recorded votes, and how often a flip risk is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.evaluation.early import JUDGED_RISKS, LEAST_CELLS, evaluate_early
from quorum.evaluation.heldout import assign_folds, training
from quorum.learning import learn
from quorum.learning.early_states import Flags, Ints, Route, States, routes, states
from quorum.learning.stopping import chances, stopping_from
from quorum.votes import read_votes
from quorum.votes.table import VotesTable
from quorum_bench.studies.score_votes import demo_votes

Row = dict[str, Any]
WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "equal": ("majority", {}),
    "em": ("em", {"cautious": False}),
    "fitted": ("loglinear", {}),
    "fitted, no part bias": ("loglinear", {"part_bias": False}),
    "votes alone": ("loglinear", {"evidence": False}),
    "votes alone, no part bias": ("loglinear", {"part_bias": False, "evidence": False}),
}
"""Weights -> method and settings: em trusts agreement in any case; "votes alone": without products' texts."""
SURER = (0.9, 0.8)
CHEAP_FIRST = ("fitted", "votes alone")
"""Weights with which the least accurate member, as a cheap one, is also asked first."""
CHEAP = 0.01
"""Cost of a call of the cheap member, where one of the others is 1."""
FOLDS = 5
WANTED = {
    "fitted": 0.24,
    "votes alone": 0.24,
    "fitted, no part bias": 0.28,
    "votes alone, no part bias": 0.28,
}
"""Weights -> wanted share of questions saved at equal answers with five members."""
_PLAIN = QuorumRule()


@dataclass(frozen=True)
class Inputs:
    """Recorded votes.

    Attributes:
        ae110k: On AE-110K; None, or no such file: left out.
        files: Further votes tables with gold.
        demo: Folder of the demo's votes, recorded where they are missing; None: left out.
        deploy: ``deploy.yaml`` of the demo's LLMs.
        splits: Random splits of the products.
    """

    ae110k: Path | None
    files: Sequence[Path]
    demo: Path | None
    deploy: Path
    splits: int = 25

    def tables(self) -> Iterator[tuple[str, VotesTable]]:
        """Each table of votes, by a name."""
        if self.ae110k and self.ae110k.is_file():
            yield "AE-110K", read_votes(self.ae110k)
        for file in self.files:
            yield file.stem, read_votes(file)
        if self.demo:
            yield "demo", demo_votes(self.demo, load_deployment(self.deploy))


def saving(inputs: Inputs) -> Iterator[Row]:
    """Per table, weights and way of asking: questions, calls, flips, accuracy and calibration, held out."""
    for name, table in inputs.tables():
        cheap = int(np.argmin(table.correct()[table.labelled].mean(axis=0)))
        costs = [CHEAP if member == cheap else 1.0 for member in range(len(table.members))]
        for weights, (method, settings) in WAYS.items():
            orders = [("by weight", None), (table.members[cheap], costs)]
            for first, prices in orders if weights in CHEAP_FIRST else orders[:1]:

                def taught(
                    seen: VotesTable, method: str = method, own: Mapping[str, Any] = settings
                ) -> Weights:
                    return learn(seen, method, settings=own)

                found = evaluate_early(table, taught, costs=prices, surer=SURER, folds=FOLDS)
                for result in found.results if found else ():
                    yield {
                        "table": name, "members": len(table.members), "cells": len(table), "weights": weights,
                        "first": first, **result.to_json(),
                    }  # fmt: skip


SAVING_HEAD = (
    "Products of other folds taught weights and stopping. asked: questions, one per member and cell; calls:\n"
    "one per member and product; flips: other answers than of all members; ECE, in brackets of the votes at\n"
    "hand; all in %\n"
    f"{'table':10}{'weights':26}{'first':21}{'way':26}{'asked':>7}{'calls':>7}{'flips':>7}{'right':>7}"
    f"{'ECE':>14}  most flips of an attribute"
)


def saving_line(row: Row) -> str:
    """Return a row as a line."""
    shares = "".join(f"{100 * row[key]:7.1f}" for key in ("asked", "calls", "flips", "accuracy"))
    ece = f"{100 * row['ece']:.1f} ({100 * row['ece_at_hand']:.1f})"
    worst = f"{row['worst']} {100 * row['worst_flips']:.1f}" if row["flips"] else "-"
    return (
        f"{row['table']:10}{row['weights']:26}{row['first'][:20]:21}{row['how']:26}{shares}{ece:>14}  {worst}"
    )


def saving_summary(rows: Sequence[Row]) -> str:
    """Return what was wanted at equal answers, and whether it came out."""
    lines = []
    for weights, wanted in WANTED.items():
        for row in rows:
            exact = row["how"] == "until nothing can change" and row["first"] == "by weight"
            if exact and row["weights"] == weights and row["members"] == 5:
                saved = 1.0 - row["asked"]
                lines.append(
                    f"{row['table']}, {weights}, five members, equal answers: wanted {100 * wanted:.0f} % "
                    f"of the questions saved, {100 * saved:.1f}: {'met' if saved >= wanted else 'MISSED'}"
                )
    return "\n".join(lines)


def splits(inputs: Inputs) -> Iterator[Row]:
    """Per table, weights and flip risk: flips on a third of the products, by limits from the others."""
    for name, table in inputs.tables():
        for weights in ("em", "fitted"):
            found, orders = _states(table, *WAYS[weights])
            attributes = np.array([table.cells[row].attribute for row in found.rows.tolist()])
            drawn = [_split(found, orders, seed) for seed in range(inputs.splits)]
            for risk in JUDGED_RISKS:
                own = [split[risk] for split in drawn]
                row = {"table": name, "weights": weights, "risk": risk, "splits": inputs.splits}
                yield row | _over_splits(own, risk, attributes)


class _Tried(NamedTuple):
    """A flip risk on the products left out of one split.

    Attributes:
        asked: Share of the questions, in the order by weight.
        cells: (c,) judged cells.
        flipped: (c,) whether the answer is another one, in that order.
        any_order: Flips in the order with the most of them, as a share.
        is_supported: Whether the others' votes supported the risk.
    """

    asked: float
    cells: Ints
    flipped: Flags
    any_order: float
    is_supported: bool


def _states(table: VotesTable, method: str, settings: Mapping[str, Any]) -> tuple[States, list[Route]]:
    """Cells by weights that other folds taught, and the orders of asking, that by weight first."""
    orders = routes(learn(table, method, settings=settings))
    masks = sorted({mask for route in orders for mask in route})
    fold = assign_folds(table.products, FOLDS, 0)
    parts = [
        states(table, np.flatnonzero(fold == part), learn(seen, method, settings=settings), masks, {}, _PLAIN)
        for part, seen in enumerate(training(table, fold, None, 0))
    ]
    return States.join(parts), orders


def _split(found: States, orders: Sequence[Route], seed: int) -> dict[float, _Tried]:
    place = np.random.default_rng(seed).permutation(int(found.products.max()) + 1)[found.products]
    test = place % 3 == 0
    own, held = found.take(np.flatnonzero(~test)), found.take(np.flatnonzero(test))
    stopping = stopping_from(own, (place[~test] // 3) % FOLDS, orders)
    change, tried = chances(stopping.change, held.features), {}
    for risk in JUDGED_RISKS:
        limit = stopping.limit(risk)
        flips = []
        for route in orders:
            stops = held.stops(limit, change, route)
            flips.append(~held.at(held.same, stops, route))
        sizes = np.array([mask.bit_count() for mask in orders[0]])
        asked = float(sizes[held.stops(limit, change, orders[0])].mean()) / sizes[-1]
        most = max(float(flipped.mean()) for flipped in flips)
        tried[risk] = _Tried(asked, np.flatnonzero(test), flips[0], most, limit > 0.0)
    return tried


def _over_splits(tried: Sequence[_Tried], risk: float, attributes: npt.NDArray[np.str_]) -> Row:
    shares = np.array([split.flipped.mean() for split in tried])
    names = np.concatenate([attributes[split.cells] for split in tried])
    flipped = np.concatenate([split.flipped for split in tried])
    large = {name for name in np.unique(attributes).tolist() if (attributes == name).sum() >= LEAST_CELLS}
    by_name = {name: float(flipped[names == name].mean()) for name in sorted(large)}
    worst = max(by_name, key=lambda name: by_name[name], default="")
    return {
        "supported": float(np.mean([split.is_supported for split in tried])),
        "asked": float(np.mean([split.asked for split in tried])),
        "flips": float(shares.mean()),
        "highest": float(shares.max()),
        "above": float((shares > risk).mean()),
        "any_order": float(np.mean([split.any_order for split in tried])),
        "worst": worst,
        "worst_flips": by_name.get(worst, 0.0),
    }


SPLITS_HEAD = (
    "Limits from two thirds of the products, flips on the other third; weights that other folds taught\n"
    "supported: splits whose votes support the risk; above: splits with more flips; any order: mean flips\n"
    "in the order of asking with the most; all in %\n"
    f"{'table':10}{'weights':10}{'risk':>5}{'supported':>11}{'asked':>7}{'flips':>7}{'highest':>9}{'above':>7}"
    f"{'any order':>11}  most flips of an attribute"
)


def splits_line(row: Row) -> str:
    """Return a row as a line."""
    keys = (("supported", 11, 0), ("asked", 7, 1), ("flips", 7, 2), ("highest", 9, 2), ("above", 7, 0))
    figures = "".join(
        f"{100 * row[key]:{width}.{digits}f}" for key, width, digits in (*keys, ("any_order", 11, 2))
    )
    worst = f"{row['worst']} {100 * row['worst_flips']:.1f}"
    return f"{row['table']:10}{row['weights']:10}{100 * row['risk']:5.1f}{figures}  {worst}"


def splits_summary(rows: Sequence[Row]) -> str:
    """Return whether flips keep their risk."""
    broken = [row for row in rows if row["flips"] > row["risk"] or row["any_order"] > row["risk"]]
    verdict = "met" if not broken else "MISSED"
    return f"wanted: mean flips at most the risk, in every order of asking: {verdict} ({len(rows)} rows)"
