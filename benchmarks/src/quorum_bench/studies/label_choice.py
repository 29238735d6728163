# SPDX-License-Identifier: Apache-2.0
"""Measure what labels of chosen cells teach, next to random ones and to those of the earlier rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.histogram import compress
from quorum.decision.weights import equal_weights
from quorum.deployment import load_deployment
from quorum.evaluation.measures import calibration_error
from quorum.evaluation.score import apply, is_right
from quorum.evaluation.stats import half_width
from quorum.learning import learn
from quorum.review.choose import choose, contradiction
from quorum.review.need import attribute_of, disagreement, label_needs
from quorum.votes import VotesTable, build_table, read_votes
from quorum_bench.studies.score_votes import seed_votes

Row = dict[str, Any]
Rows = npt.NDArray[np.int64]
LABELS = (50, 100, 200)
LISTINGS = 200
LEAST_CELLS = 20
"""Cells that an attribute has at least, among those judged by, to be looked at alone."""


@dataclass(frozen=True)
class Inputs:
    """Votes to choose from.

    Attributes:
        folder: Of the votes of the demo's LLMs, as of the study ``scores``; None: they are not kept.
        deploy: ``deploy.yaml`` of the LLMs.
        ae110k: Recorded votes of LLMs on AE-110K; None, or no such file: left out.
        tables: Tables of the demo.
        draws: Splits of products, each with draws of labels.
    """

    folder: Path | None
    deploy: Path
    ae110k: Path | None
    tables: int = 6
    draws: int = 20


class _Split(NamedTuple):
    """Votes to label and learn from, those to judge by, and the numbers of possible answers."""

    pool: VotesTable
    judge: VotesTable
    counts: Mapping[str, int]


def random_cells(table: VotesTable, count: int, seed: int) -> Rows:
    """Draw random cells."""
    return np.asarray(np.random.default_rng(seed).choice(len(table), count, replace=False), np.int64)


def earlier_cells(table: VotesTable, count: int, seed: int) -> Rows:
    """Choose by the earlier rule: two in five cells disputed, patterns by f^-1/2, attributes as they come."""
    _, where = compress(table.codes)
    weight = np.bincount(where)[where] ** -0.5
    if (clash := contradiction(table)) is not None:
        weight *= 1.0 + clash
    split = disagreement(table) > 1e-9
    rng, agreed = np.random.default_rng(seed), min(round(0.6 * count), int((~split).sum()))
    parts = []
    for kind, number in ((split, count - agreed), (~split, agreed)):
        keys = np.where(kind, rng.exponential(size=len(table)) / weight, np.inf)
        ranked = np.argsort(keys, kind="stable")[: int(kind.sum())]
        _, first = np.unique(table.products[ranked], return_index=True)
        again = ~np.isin(np.arange(len(ranked)), first)
        parts.append(np.concatenate([ranked[~again], ranked[again]])[:number])
    return np.concatenate(parts)


def chosen_cells(table: VotesTable, count: int, seed: int) -> Rows:
    """Choose as ``quorum label`` does."""
    return np.array([choice.index for choice in choose(table, count, seed=seed)])


RULES: Mapping[str, Callable[[VotesTable, int, int], Rows]] = {
    "random": random_cells,
    "earlier": earlier_cells,
    "chosen": chosen_cells,
}


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row per kind of votes, number of labels and rule: figures of each draw."""
    for world, splits in _worlds(inputs):
        found: dict[tuple[int, str], list[Row]] = {}
        for seed, split in enumerate(splits):
            for labels in LABELS:
                for rule in RULES:
                    found.setdefault((labels, rule), []).append(_judged(split, labels, rule, seed))
        for (labels, rule), figures in found.items():
            by_name = {name: [row[name] for row in figures] for name in figures[0]}
            away = np.array(by_name["accuracy"]) - [row["accuracy"] for row in found[labels, "random"]]
            yield {
                "votes": world,
                "labels": labels,
                "rule": rule,
                "to_random": float(away.mean()),
                "to_random_half": float(half_width(away)),
                **by_name,
            }


def _worlds(inputs: Inputs) -> Iterator[tuple[str, Iterator[_Split]]]:
    if inputs.ae110k and inputs.ae110k.is_file():
        table = read_votes(inputs.ae110k)
        yield "AE-110K", (_split(table, table.n_products // 2, seed, {}) for seed in range(inputs.draws))
    deployment = load_deployment(inputs.deploy)
    counts = deployment.catalogue().value_counts()
    scored = [votes for _, votes in seed_votes(inputs.folder, deployment, inputs.tables)]
    bare = [
        build_table(votes.members, [replace(cell, scores=()) for cell in votes.cells]) for votes in scored
    ]
    for world, tables in (("demo", scored), ("demo, no scores", bare)):
        yield world, _demo_splits(tables, inputs.draws, counts)


def _demo_splits(tables: Sequence[VotesTable], draws: int, counts: Mapping[str, int]) -> Iterator[_Split]:
    for seed in range(draws):
        yield _split(tables[seed % len(tables)], LISTINGS, seed, counts)


def _split(table: VotesTable, products: int, seed: int, counts: Mapping[str, int]) -> _Split:
    """Draw products to learn from, and as many others to judge by."""
    order = np.random.default_rng(seed).permutation(table.n_products)
    halves = (np.isin(table.products, part) for part in (order[:products], order[products : 2 * products]))
    pool, judge = (table.take(np.flatnonzero(half & table.labelled)) for half in halves)
    return _Split(pool, judge, counts)


def _judged(split: _Split, labels: int, rule: str, seed: int) -> Row:
    """Label cells by a rule, learn, and judge."""
    pool, judge, counts = split
    hidden = pool.with_gold(np.zeros(len(pool), np.bool_))
    picked = RULES[rule](hidden, labels, seed)
    seen = pool.with_gold(np.isin(np.arange(len(pool)), picked))
    decision = apply(judge, learn(seen, "loglinear", value_counts=counts))
    right = is_right(judge, decision)
    majority = is_right(judge, apply(judge, equal_weights(judge.members)))
    names, attribute = attribute_of(judge)
    cells = np.bincount(attribute, minlength=len(names))
    away = 100.0 * np.bincount(attribute, right.astype(float) - majority, len(names)) / np.maximum(cells, 1)
    needs = label_needs(seen)
    blank = (pool.codes[picked] <= 0).all(axis=1)
    return {
        "accuracy": float(100.0 * right.mean()),
        "majority": float(100.0 * majority.mean()),
        "ece": float(100.0 * calibration_error(decision.confidence, right)),
        "confidence_gap": float(100.0 * (decision.confidence.mean() - right.mean())),
        "worst_attribute": float(away[cells >= LEAST_CELLS].min()),
        "met_share": 100.0 * (1.0 - sum(n.more for n in needs) / sum(n.needed for n in needs)),
        "blank_share": float(100.0 * blank.mean()),
    }


HEAD = (
    "loglinear on products that gave no label: percent right, mean and lowest draw; difference to random\n"
    "labels +- half its 95 % interval; ECE; confidence minus accuracy; worst attribute to majority, mean\n"
    "and worst draw; share of the needed labels that are met; share of cells where all say n/a\n\n"
    f"{'votes':17}{'labels':>6} {'rule':9}{'right':>6}{'low':>7}{'to random':>16}{'ECE':>6}{'conf.':>6}"
    f"{'worst':>7}{'':>7}{'met':>6}{'n/a':>5}"
)


def line(row: Row) -> str:
    """Return a row as a line."""
    mean = {name: float(np.mean(value)) for name, value in row.items() if isinstance(value, list)}
    away = f"{row['to_random']:+.2f} +- {row['to_random_half']:.2f}" if row["rule"] != "random" else ""
    return (
        f"{row['votes']:17}{row['labels']:6d} {row['rule']:9}{mean['accuracy']:6.2f}"
        f"{min(row['accuracy']):7.2f}{away:>16}{mean['ece']:6.2f}{mean['confidence_gap']:+6.1f}"
        f"{mean['worst_attribute']:+7.1f}{min(row['worst_attribute']):+7.1f}{mean['met_share']:6.0f}"
        f"{mean['blank_share']:5.0f}"
    )


def summary(found: Sequence[Row]) -> str:
    """Return the mean over all votes and numbers of labels, and whether chosen labels are worth choosing."""
    lines = []
    for rule in RULES:
        own = [row for row in found if row["rule"] == rule]
        away, ece = (float(np.mean([np.mean(row[name]) for row in own])) for name in ("to_random", "ece"))
        worst = float(np.mean([np.mean(row["worst_attribute"]) for row in own]))
        lines.append(f"{rule:9}to random {away:+.2f}, ECE {ece:.2f}, worst attribute {worst:+.2f}")
    chosen = [row for row in found if row["rule"] == "chosen"]
    below = [row for row in chosen if row["to_random"] + row["to_random_half"] < 0.0]
    met = "met" if not below else "MISSED"
    return "\n".join([*lines, f"wanted: chosen nowhere worse than random beyond its interval: {met}"])
