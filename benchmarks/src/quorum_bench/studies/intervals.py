# SPDX-License-Identifier: Apache-2.0
"""Measure whether intervals hold what they say: how often they cover the figure of other products.

Products are split into halves at random. ``quorum evaluate --gold-labels`` gives an interval on one half, and
weights learned there once, from as many labels, have a figure on the other. That figure has a sampling error
of its own, which is no part of the interval. For an interval of half width ``h = 1.96 s`` and a figure with
standard error ``e`` the difference of both has the standard deviation ``sqrt(s^2 + e^2)``, so the interval
should cover ``2 Phi(1.96 / sqrt(1 + (e / s)^2)) - 1`` of the figures: 83.4 % where ``e = s``, as without
draws of labels, and nearer to 95 % the more the draws widen it. With ``e`` added to it, it should cover 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from quorum.decision.weights import Weights
from quorum.evaluation.by_attribute import judge, kinds_of
from quorum.evaluation.draws import Draws, training_draws
from quorum.evaluation.heldout import assign_folds, held_out
from quorum.evaluation.method_result import MethodResult, results
from quorum.evaluation.score import hits
from quorum.evaluation.stats import mean_over_products
from quorum.learning import learn
from quorum.votes import VotesTable, read_votes

Row = dict[str, Any]
FOLDS = 5
_Z = NormalDist().inv_cdf(0.975)
_WITHOUT = "loglinear, one draw"
"""The interval of one draw of labels, which does not hold what the draw does."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Random halves of the products of a table, and their number."""

    split: int
    ours: VotesTable
    other: VotesTable


def halves(votes: Path, splits: int) -> Iterator[Halves]:
    """Split the labelled cells of a votes table at random, several times, by products."""
    table = read_votes(votes)
    table = table.take(np.flatnonzero(table.labelled))
    for split in range(splits):
        first = assign_folds(table.products, 2, split) == 0
        yield Halves(split, table.take(np.flatnonzero(first)), table.take(np.flatnonzero(~first)))


def coverage(votes: Path, splits: int, labels: int, draws: int) -> Iterator[Row]:
    """Per split and figure: the interval on one half, and the figure on the other with its standard error."""
    for pair in halves(votes, splits):
        blank = pair.ours.with_gold(np.zeros(len(pair.ours), np.bool_))
        free = {name: learn(blank, name) for name in ("majority", "em")}
        found = _evaluated(pair.ours, free, labels, draws, pair.split)
        right = {name: hits(pair.other, weights) for name, weights in free.items()}
        drawn = pair.ours.sample_gold(labels, 1_000_000 + pair.split)
        right["loglinear"] = right[_WITHOUT] = hits(pair.other, learn(drawn, "loglinear"))
        plain = right["majority"]
        for name, cells in right.items():
            own = found[name]
            figures = {"accuracy": (own.ci95, cells * 1.0)}
            if name != "majority":
                figures["to majority"] = (own.delta_majority_ci95, cells * 1.0 - plain)
            for figure, (interval, values) in figures.items():
                there = mean_over_products(values, pair.other.products)
                yield {
                    "split": pair.split,
                    "method": name,
                    "figure": figure,
                    "low": interval[0],
                    "high": interval[1],
                    "there": there.value,
                    "error": (there.high - there.low) / 2 / _Z,
                }


def _evaluated(
    table: VotesTable, free: Mapping[str, Weights], labels: int, draws: int, seed: int
) -> Mapping[str, MethodResult]:
    """Figures as `quorum evaluate --gold-labels` gives them; ``free`` are weights of methods without gold."""
    fold = assign_folds(table.products, FOLDS, seed)
    held: dict[str, Draws] = {name: [held_out(table, fold, [own] * FOLDS)] for name, own in free.items()}
    drawn = [
        held_out(table, fold, [learn(t, "loglinear") for t in tables])
        for tables in training_draws(table, fold, labels, seed, draws)
    ]
    rows = np.flatnonzero(table.labelled)
    _, found = results(table, rows, held | {"loglinear": drawn, _WITHOUT: drawn[:1]}, {}, seed)
    return found


def covered(rows: Sequence[Row]) -> list[Row]:
    """Sum up the splits: the share that is covered, and what it should be, by method and figure."""
    kinds = dict.fromkeys((row["method"], row["figure"]) for row in rows)
    return [
        {"method": method, "figure": figure}
        | _covered([row for row in rows if (row["method"], row["figure"]) == (method, figure)])
        for method, figure in kinds
    ]


def _covered(rows: Sequence[Row]) -> Row:
    low, high, there, error = (np.array([row[k] for row in rows]) for k in ("low", "high", "there", "error"))
    half = np.maximum((high - low) / 2, 1e-9)
    bars = _Z / np.sqrt(1 + (_Z * error / half) ** 2)
    wide = np.sqrt(half**2 + (_Z * error) ** 2) - half
    inside = (low <= there) & (there <= high)
    return {
        "splits": len(rows),
        "half_width": float(100 * half.mean()),
        "covered": float(100 * inside.mean()),
        "should": float(100 * np.mean([2 * NormalDist().cdf(bar) - 1 for bar in bars])),
        "covered_with_error": float(100 * ((low - wide <= there) & (there <= high + wide)).mean()),
    }


def coverage_table(rows: Sequence[Row], labels: int, draws: int) -> str:
    """Return the table of the part."""
    found = covered(rows)
    splits = found[0]["splits"]
    lines = [
        f"{splits} splits; 95 % intervals of `evaluate --gold-labels {labels}`, {draws} draws, {FOLDS} folds",
        f"{'':36}{'half width':>11}{'covers':>8}{'should':>8}{'with the error there':>26}",
        f"{'method':22}{'figure':14}{'points':>11}{'%':>8}{'%':>8}{'covers, %':>18}{'should':>8}",
    ]
    lines += [
        f"{row['method']:22}{row['figure']:14}{row['half_width']:11.2f}{row['covered']:8.1f}"
        f"{row['should']:8.1f}{row['covered_with_error']:18.1f}{95.0:8.1f}"
        for row in found
    ]
    worst = min(row["covered"] - row["should"] for row in found if row["method"] != _WITHOUT)
    spread = 100 * 2 * (0.85 * 0.15 / splits) ** 0.5
    lines.append(
        f"furthest below, but for one draw: {worst:+.1f} points; two standard errors of {splits} splits are "
        f"{spread:.1f}"
    )
    return "\n".join(lines)


def alarms(votes: Path, splits: int, labels: int) -> Iterator[Row]:
    """Per split, which attributes are named worse on one half where the two sides are equally good.

    ``swapped``: decisions of `loglinear` and of majority, exchanged for a random half of the products.
    ``learned alike``: two times `loglinear`, each from labels of its own of the other half.
    """
    for pair in halves(votes, splits):
        rng = np.random.default_rng(pair.split)
        judged, kinds = pair.other, kinds_of(pair.other)
        drawn = [pair.ours.sample_gold(labels, 2 * pair.split + one) for one in range(2)]
        first, second = (hits(judged, learn(table, "loglinear")) for table in drawn)
        plain = hits(judged, learn(pair.ours, "majority"))
        swap = rng.random(judged.n_products)[judged.products] < 0.5
        sides = {
            "swapped": (np.where(swap, first, plain), np.where(swap, plain, first)),
            "learned alike": (first, second),
        }
        for name, (own, other) in sides.items():
            found = judge(kinds, judged.products, own, other, name)
            tried = len(found.by_attribute) - len(found.too_few)
            yield {"split": pair.split, "sides": name, "attributes": tried, "worse": found.worse}


def alarms_table(rows: Sequence[Row]) -> str:
    """Return the table of the part."""
    lines = [
        f"{'two equally good sides':24}{'splits':>8}{'attributes':>12}{'any named worse':>18}{'at most':>9}"
    ]
    for name in dict.fromkeys(row["sides"] for row in rows):
        own = [row for row in rows if row["sides"] == name]
        named = 100 * np.mean([bool(row["worse"]) for row in own])
        tried = np.mean([row["attributes"] for row in own])
        lines.append(f"{name:24}{len(own):8d}{tried:12.1f}{named:17.1f}%{2.5:8.1f}%")
    return "\n".join(lines)
