# SPDX-License-Identifier: Apache-2.0
"""Measure decisions on labelled cells: reliability, calibration, accuracy at coverage, F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.f1 import f1
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable

BINS = 15
COVERAGE = 0.8

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: mean confidence, share right, number of cells."""

    confidence: float
    accuracy: float
    cells: int


def reliability(confidence: Floats, right: Flags, bins: int = BINS) -> list[ReliabilityBin]:
    """At most ``bins`` bins of equal mass, by rising confidence, (n,) in [0, 1]; empty ones are left out.

    Cells of equal confidence each count as the share of them that is right, since their order is arbitrary.
    """
    levels, level, cells = np.unique(confidence, return_inverse=True, return_counts=True)
    share = np.bincount(level, right, len(levels)) / cells
    parts = [part for part in np.array_split(np.repeat(np.arange(len(levels)), cells), bins) if len(part)]
    return [ReliabilityBin(float(levels[p].mean()), float(share[p].mean()), len(p)) for p in parts]


def merged(rows: Sequence[ReliabilityBin], bins: int) -> list[ReliabilityBin]:
    """Join neighbouring bins, so that at most ``bins`` are left."""
    parts = [part for part in np.array_split(np.arange(len(rows)), bins) if len(part)]
    joined = []
    for part in parts:
        cells = [rows[i].cells for i in part]
        said, right = (
            float(np.average([getattr(rows[i], name) for i in part], weights=cells))
            for name in ("confidence", "accuracy")
        )
        joined.append(ReliabilityBin(said, right, sum(cells)))
    return joined


def calibration_error(confidence: Floats, right: Flags, bins: int = BINS) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal mass.

    Source: Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning; bins of equal
    mass as in Nixon et al., arXiv:1904.01685.
    """
    rows = reliability(confidence, right, bins)
    cells = sum(row.cells for row in rows)
    return (
        sum(row.cells * abs(row.confidence - row.accuracy) for row in rows) / cells if cells else float("nan")
    )


def accuracy_at(confidence: Floats, right: Flags, coverage: float = COVERAGE) -> float:
    """Accuracy on the share ``coverage`` of the cells with the highest confidence; ties count in part."""
    order = np.argsort(-confidence, kind="stable")
    kept = max(1, round(coverage * len(order)))
    threshold = confidence[order[kept - 1]]
    above, tied = confidence > threshold, confidence == threshold
    # Mean over equal confidences: their order is arbitrary.
    return float((right[above].sum() + (kept - above.sum()) * right[tied].mean()) / kept)


def micro_f1(table: VotesTable, values: list[str], rows: npt.NDArray[np.int64]) -> float:
    """F1 of extracting values: "n/a" and no answer are negatives, a wrong value is both kinds of error.

    ``values`` are the decisions on the labelled ``rows`` of the table, "" for none. nan if there is nothing
    to extract and nothing was extracted.
    """
    counts = (value_counts(table.cells[row], value) for row, value in zip(rows.tolist(), values, strict=True))
    hits, extracted, wanted = (sum(column) for column in zip((0.0, 0.0, 0.0), *counts, strict=True))
    return f1(hits, extracted, wanted)


def value_counts(cell: Cell, answer: str | None) -> tuple[float, float, float]:
    """What an answer adds to a micro-F1: whether it is a right value, is a value, and should be one.

    Where both "n/a" and a value are acceptable, that value is wanted if it is the answer.
    """
    named = bool(answer) and answer != NOT_APPLICABLE
    hit = named and cell.is_right(answer)
    return float(hit), float(named), float(hit or cell.gold[0] != NOT_APPLICABLE)
