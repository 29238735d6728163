# SPDX-License-Identifier: Apache-2.0
"""Score answers of several seeds, with intervals from a bootstrap over products.

Measures are those of :mod:`quorum.evaluation.task_scores`, functions of sums over cells: so products are
drawn with replacement by adding up the numbers of their cells. All seeds, and both sides of a difference, get
the same draws; the figure of several seeds is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKind
from quorum.evaluation.kinds import Measure
from quorum.evaluation.stats import RESAMPLES, Estimate, bootstrap_sums, percentile_interval
from quorum.evaluation.task_scores import measures
from quorum.tune.data import TrainingRow
from quorum.votes import Cell
from quorum_bench.studies.tasks.inputs import Row

Floats = npt.NDArray[np.float64]
Answers = Sequence[str | None]
"""One per row, as VALUES spells it; None: there is none that could be read."""


class Figure(NamedTuple):
    """A measure of answers of one kind, by its name in :func:`quorum.evaluation.task_scores.measures`."""

    kind: AnswerKind
    name: str

    def of(self, rows: Sequence[TrainingRow], answers: Answers) -> Measure:
        """The measure of answers to rows."""
        return measures(self.kind, [cell_of(row) for row in rows], answers)[self.name]


ACCURACY = Figure("value", "accuracy")
LABEL_ACCURACY = Figure("label", "accuracy")
MACRO_F1 = Figure("label", "macro_f1")
SPAN_F1 = Figure("spans", "f1")
WHOLE_ANSWERS = Figure("spans", "exact")


def cell_of(row: TrainingRow, values: Sequence[str | None] = ()) -> Cell:
    """A row as a labelled cell with votes."""
    return Cell(row.product, row.category, row.text, row.attribute, tuple(values), row.answers)


def estimate(
    figure: Figure,
    rows: Sequence[TrainingRow],
    seeds: Sequence[Answers],
    against: Sequence[Answers] = (),
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean figure of several seeds, in [0, 1], with its 95 % interval.

    Args:
        figure: What is measured.
        rows: Judged.
        seeds: Answers of each.
        against: Answers of the other side, of as many seeds as it has: the figure is then the difference.
        groups: (n,) what is drawn; None: products.
        resamples: Draws.
    """
    names = [row.product for row in rows] if groups is None else groups
    _, at = np.unique(np.asarray(names), return_inverse=True)
    size = int(at.max()) + 1
    sides = [[figure.of(rows, answers) for answers in side] for side in (seeds, against)]
    sums = [[_added(np.asarray(one.counts, np.float64), at, size) for one in side] for side in sides]
    mine = len(seeds)
    drawn = [
        _difference([_figures(sides[0], found[:mine]), _figures(sides[1], found[mine:])])
        for found in bootstrap_sums([*sums[0], *sums[1]], resamples)
    ]
    value = _difference([[np.asarray(one.value) for one in side] for side in sides])
    low, high = percentile_interval(np.concatenate(drawn))
    return Estimate(float(value), float(low), float(high))


def each_seed(figure: Figure, rows: Sequence[TrainingRow], seeds: Sequence[Answers]) -> list[float]:
    """The figure of each seed alone, in [0, 1]."""
    return [figure.of(rows, answers).value for answers in seeds]


def by_attribute(rows: Sequence[TrainingRow], columns: Mapping[str, Sequence[Answers]]) -> list[Row]:
    """Percent right of columns of values, by attribute: means over seeds; those with most cells first."""
    cells = [cell_of(row) for row in rows]
    right = {
        name: np.mean(
            [[c.is_right(a) for c, a in zip(cells, answers, strict=True)] for answers in seeds], axis=0
        )
        for name, seeds in columns.items()
    }
    return shares_by_attribute([row.attribute for row in rows], right)


def shares_by_attribute(attributes: Sequence[str], columns: Mapping[str, npt.ArrayLike]) -> list[Row]:
    """Percent of columns of (n,) shares, by attribute; those with most cells first."""
    names = np.asarray(attributes)
    found = []
    for name in sorted(set(attributes), key=lambda name: (-attributes.count(name), name)):
        at = names == name
        shares = {column: 100 * float(np.asarray(values)[at].mean()) for column, values in columns.items()}
        found.append({"attribute": name, "cells": int(at.sum()), **shares})
    return found


def attribute_lines(found: Sequence[Row], most: int = 12) -> str:
    """The attributes with most cells as a table."""
    names = [name for name in found[0] if name not in ("attribute", "cells")]
    lines = ["", f"{'attribute':24}{'cells':>6}" + "".join(f"{name[-14:]:>16}" for name in names)]
    for row in found[:most]:
        figures = "".join(f"{row[name]:16.1f}" for name in names)
        lines.append(f"{row['attribute'][:23]:24}{row['cells']:6}{figures}")
    return "\n".join([*lines, ""])


def percent(figure: Estimate, digits: int = 1) -> str:
    """``57.3 [55.1, 59.5]``, of a figure in [0, 1]."""
    value, low, high = (100 * number for number in (figure.value, figure.low, figure.high))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def points(figure: Estimate, digits: int = 1) -> str:
    """``+1.1 [+0.1, +2.1]``, of a difference of figures in [0, 1]."""
    value, low, high = (100 * number for number in (figure.value, figure.low, figure.high))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _added(counts: Floats, at: npt.NDArray[np.intp], size: int) -> Floats:
    return np.stack([np.bincount(at, column, size) for column in counts.T], axis=1)


def _figures(side: Sequence[Measure], sums: Sequence[Floats]) -> list[Floats]:
    return [np.nan_to_num(measure.figure(own)) for measure, own in zip(side, sums, strict=True)]


def _difference(sides: Sequence[Sequence[Floats]]) -> Floats:
    mine, others = sides
    mean = np.mean(mine, axis=0)
    return np.asarray(mean - np.mean(others, axis=0) if len(others) else mean)
