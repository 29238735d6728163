# SPDX-License-Identifier: Apache-2.0
"""Measure how much members repeat each other: error correlation with gold, excess agreement without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.arrays import Floats
from quorum.decision.histogram import Histogram, right_members
from quorum.decision.patterns import ABSTAIN


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


def correlation(hist: Histogram, accuracy: Floats, labels: Floats | float) -> Correlation:
    """Compare every pair of members.

    Args:
        hist: Votes of all cells.
        accuracy: (m,) accuracies, from gold or from one-coin EM.
        labels: L, one number or (g,) per group.

    Returns:
        The figures. Without gold the accuracies come from the same agreement, so a bloc of most members
        looks accurate rather than alike: ``excess`` is then a lower bound.
    """
    m = hist.members
    answered = hist.codes != ABSTAIN
    counts = hist.counts
    both = (answered * counts[:, None]).T.astype(np.float64) @ answered
    same = np.zeros((m, m))
    for j in range(m):
        agree = (hist.codes == hist.codes[:, j : j + 1]) & answered & answered[:, j : j + 1]
        same[j] = counts @ agree
    agreement = np.divide(same, both, out=np.full((m, m), np.nan), where=both > 0)
    chance = _chance(hist, both, np.nan_to_num(accuracy, nan=0.5), labels)
    room = np.maximum(1.0 - chance, 1e-9)
    spread = np.sqrt(np.maximum(chance * room, 1e-12) / np.maximum(both, 1.0))
    phi, shared = _errors(hist.labelled())
    excess = (agreement - chance) / room
    for matrix in (agreement, excess, phi, shared):
        np.fill_diagonal(matrix, 1.0)
    z = (agreement - chance) / spread
    np.fill_diagonal(z, np.nan)
    return Correlation(phi, shared, agreement, excess, z)


def _chance(hist: Histogram, both: Floats, accuracy: Floats, labels: Floats | float) -> Floats:
    """(m, m) agreement of independent one-coin members, averaged over the groups."""
    n_groups = max(hist.n_groups, 1)
    each = np.broadcast_to(np.asarray(labels, np.float64), (n_groups,))
    share = np.bincount(hist.groups, hist.counts, n_groups)
    inverse = float(np.average(1.0 / (each - 1.0), weights=share)) if share.sum() else 0.0
    wrong = 1.0 - accuracy
    return np.asarray(np.outer(accuracy, accuracy) + np.outer(wrong, wrong) * inverse)


def _errors(hist: Histogram) -> tuple[Floats, Floats]:
    """(m, m) correlation of errors and share of common errors that are the same answer."""
    m = hist.members
    phi, shared = np.full((m, m), np.nan), np.full((m, m), np.nan)
    answered, wrong = hist.codes != ABSTAIN, ~right_members(hist)
    for i in range(m):
        for j in range(m):
            weight = hist.counts * (answered[:, i] & answered[:, j])
            total = weight.sum()
            if not total:
                continue
            a, b = weight @ wrong[:, i] / total, weight @ wrong[:, j] / total
            together = weight @ (wrong[:, i] & wrong[:, j])
            scale = np.sqrt(a * (1.0 - a) * b * (1.0 - b))
            phi[i, j] = (together / total - a * b) / scale if scale else np.nan
            if together:
                alike = hist.codes[:, i] == hist.codes[:, j]
                shared[i, j] = weight @ (wrong[:, i] & wrong[:, j] & alike) / together
    return phi, shared


def blocs(
    figures: Floats, threshold: float, z: Floats | None = None, z_threshold: float = 3.0
) -> list[list[int]]:
    """Group members that are linked by pairs above a threshold.

    Args:
        figures: (m, m) pairwise figures.
        threshold: A pair above it is linked.
        z: (m, m) standard errors above zero; pairs at or below ``z_threshold`` are not linked. None: not
            tested.
        z_threshold: See ``z``.

    Returns:
        Member indices per bloc, blocs of two and more only.
    """
    linked = np.nan_to_num(figures, nan=-np.inf) > threshold
    if z is not None:
        linked &= np.nan_to_num(z, nan=-np.inf) > z_threshold
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
