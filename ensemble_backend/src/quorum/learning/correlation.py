# SPDX-License-Identifier: Apache-2.0
"""Measure how much members repeat each other: error correlation with gold, excess agreement without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.histogram import Histogram, right_members
from quorum.decision.patterns import ABSTAIN

Flags = npt.NDArray[np.bool_]
_SURE = 3.0


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pairwise figures; (m, m), symmetric, nan where a pair never answered together.

    Attributes:
        error_phi: Correlation of being wrong, on labelled cells; nan without gold.
        same_error: Among labelled cells where both are wrong: share with the same wrong answer.
        agreement: Share of cells with the same answer.
        excess: Agreement above that of independent members with the given accuracies, as a share of the
            range left above it; 0 = independent, 1 = copies.
        z: Excess in standard errors.
    """

    error_phi: Floats
    same_error: Floats
    agreement: Floats
    excess: Floats
    z: Floats


def correlation(hist: Histogram, accuracy: Floats, labels: float) -> Correlation:
    """Compare every pair of members.

    Args:
        hist: Votes of all cells.
        accuracy: (m,) accuracies, from gold or from one-coin EM.
        labels: L, the number of possible values.

    Returns:
        The figures. Without gold the accuracies come from the same agreement, so a bloc of most members
        looks accurate rather than alike: ``excess`` is then a lower bound.
    """
    answered = hist.codes != ABSTAIN
    right = np.nan_to_num(accuracy, nan=0.5)
    chance = np.outer(right, right) + np.outer(1.0 - right, 1.0 - right) / (labels - 1.0)
    room = np.maximum(1.0 - chance, 1e-9)
    both = _together(hist, answered, answered)
    with np.errstate(invalid="ignore"):
        agreement = _same(hist, answered) / both
    z = (agreement - chance) / np.sqrt(np.maximum(chance * room, 1e-12) / np.maximum(both, 1.0))
    phi, shared = _errors(hist.labelled())
    excess = (agreement - chance) / room
    for matrix, alone in ((agreement, 1.0), (excess, 1.0), (phi, 1.0), (shared, 1.0), (z, np.nan)):
        np.fill_diagonal(matrix, alone)
    return Correlation(phi, shared, agreement, excess, z)


def _together(hist: Histogram, one: Flags, other: Flags) -> Floats:
    """(m, m) number of cells where the first is true of one member and the second of the other."""
    return np.asarray((one * hist.counts[:, None]).T @ other)


def _same(hist: Histogram, of: Flags) -> Floats:
    """(m, m) number of cells where it is true of both members, and both gave the same answer."""
    codes, weighted = hist.codes, of * hist.counts[:, None]
    pairs = [weighted[:, j] @ (of & (codes == codes[:, j : j + 1])) for j in range(hist.members)]
    return np.asarray(pairs)


def _errors(hist: Histogram) -> tuple[Floats, Floats]:
    """(m, m) correlation of errors and share of common errors that are the same answer."""
    answered = hist.codes != ABSTAIN
    wrong = answered & ~right_members(hist.right, hist.members)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = _together(hist, wrong, answered) / _together(hist, answered, answered)
        scale = np.sqrt(rate * (1.0 - rate) * rate.T * (1.0 - rate.T))
        common = _together(hist, wrong, wrong)
        phi = (common / _together(hist, answered, answered) - rate * rate.T) / scale
        return phi, _same(hist, wrong) / common


def blocs(figures: Floats, threshold: float, z: Floats | None = None) -> list[list[int]]:
    """Group members that are linked by pairs above a threshold.

    Args:
        figures: (m, m) pairwise figures.
        threshold: A pair above it is linked.
        z: (m, m) figures in standard errors; only pairs above 3 are linked. None: not tested.

    Returns:
        Member indices per bloc, blocs of two and more only.
    """
    linked = np.nan_to_num(figures, nan=-np.inf) > threshold
    if z is not None:
        linked &= np.nan_to_num(z, nan=-np.inf) > _SURE
    linked |= linked.T
    unvisited, groups = set(range(len(figures))), []
    while unvisited:
        bloc, edge = set(), {min(unvisited)}
        while edge:
            bloc |= edge
            edge = {int(k) for j in edge for k in np.flatnonzero(linked[j])} - bloc
        unvisited -= bloc
        if len(bloc) > 1:
            groups.append(sorted(bloc))
    return groups
