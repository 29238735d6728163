# SPDX-License-Identifier: Apache-2.0
"""Score single values: each is right or wrong. Accuracy, and micro-F1 of extracting, "n/a" being no value."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.evaluation.kinds.base import KindScores, Measure, Pairs, f1_of, mean_of
from quorum.evaluation.measures import value_counts
from quorum.votes.schema import Cell


def right(cell: Cell, value: str) -> float:
    """1 for an acceptable answer, else 0."""
    return float(cell.is_right(value))


def share_alike(value: str, cast: Sequence[str], text: str) -> float:
    """The share of the votes that name the value."""
    return cast.count(value) / len(cast)


def accuracy(pairs: Pairs) -> Measure:
    """The share that is right."""
    return mean_of([float(cell.is_right(answer)) for cell, answer in pairs])


def _measures(pairs: Pairs) -> dict[str, Measure]:
    return {"accuracy": accuracy(pairs), "micro_f1": f1_of([value_counts(*pair) for pair in pairs])}


VALUE = KindScores("accuracy", "1 or 0 of values", right, share_alike, _measures)
