# SPDX-License-Identifier: Apache-2.0
"""What evaluation must know of a kind of answer, and the sums that measures are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.votes.schema import Cell

Counts = npt.NDArray[np.integer[Any]]
Pairs = Sequence[tuple[Cell, str | None]]
"""Labelled cells, each with an answer; None: there is none."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of answers.

    Attributes:
        counts: (n, k) what each cell adds.
        figure: Maps (..., k) sums to (...,) figures in [0, 1].
    """

    counts: Floats | Counts
    figure: Callable[[Floats], Floats]

    @property
    def value(self) -> float:
        """The figure of all cells; nan if there is nothing to measure."""
        return float(self.figure(self.counts.sum(axis=0, dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class KindScores:
    """How answers of one kind are scored and measured.

    Attributes:
        headline: The one of its measures that stands first, and by which weights are chosen.
        unit: What a mean of scores is of, for people.
        score: Score of an answer to a cell with gold, in [0, 1].
        agreement: Mean likeness of an answer to votes, at least one, in [0, 1], given the product's text.
        measures: The measures of answers to cells of one attribute, by name.
    """

    headline: str
    unit: str
    score: Callable[[Cell, str], float]
    agreement: Callable[[str, Sequence[str], str], float]
    measures: Callable[[Pairs], dict[str, Measure]]


def mean_of(scores: Sequence[float]) -> Measure:
    """The mean of (n,) scores."""
    return ratio_of([(score, 1.0) for score in scores])


def ratio_of(rows: Sequence[Sequence[float]]) -> Measure:
    """The sum of the first of (n, 2) columns by that of the second."""
    return Measure(_array(rows, 2), lambda sums: divided(sums[..., 0], sums[..., 1]))


def f1_of(rows: Sequence[Sequence[float]]) -> Measure:
    """The F1 of (n, 3) numbers: right, answered, wanted."""
    return Measure(_array(rows, 3), f1_of_sums)


def f1_of_sums(sums: Floats) -> Floats:
    """F1 of the last axis: right, answered, wanted."""
    return divided(2.0 * sums[..., 0], sums[..., 1] + sums[..., 2])


def divided(above: Floats, below: Floats) -> Floats:
    """The quotient, nan where nothing is below."""
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0))


def _array(rows: Sequence[Sequence[float]], width: int) -> Floats:
    return np.array(rows, np.float64).reshape(len(rows), width)
