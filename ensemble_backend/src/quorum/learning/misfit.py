# SPDX-License-Identifier: Apache-2.0
"""Test whether a model explains how often members agree: observed pattern counts against expected ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.arrays import Floats, leaders
from quorum.decision.patterns import ABSTAIN, Codes, Keys

SURE = 3.0
NEGLIGIBLE = 0.001
_LOW = 5.0


@dataclass(frozen=True, slots=True)
class Misfit:
    """How far observed pattern counts are from those that a model expects.

    Attributes:
        z: Likelihood ratio statistic G2 minus its degrees of freedom, in its standard deviations.
        share: What the model leaves unexplained, in nats per cell, >= 0.
    """

    z: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether chance explains the difference, or the difference is too small to matter."""
        return self.z <= SURE or self.share <= NEGLIGIBLE


def misfit(codes: Codes, counts: Floats, expected: Floats, parameters: int) -> Misfit:
    """Compare counts with those expected among cells that the same members answered.

    Rows with fewer than five expected cells, and patterns that did not occur, are taken together.

    Args:
        codes: (r, m) codes, distinct.
        counts: (r,) cells of each pattern.
        expected: (r,) cells of each pattern that the model expects, given who answered.
        parameters: Number of parameters that the model was fitted with.

    Source: likelihood ratio test of multinomial counts, Wilks 1938, doi:10.1214/aoms/1177732360.
    """
    answered = codes != ABSTAIN
    compared = answered.sum(axis=1) > 1
    total = float(counts[compared].sum())
    own = compared & (expected >= _LOW)
    seen, wanted = counts[own], expected[own]
    statistic = 2.0 * float(seen @ np.log(np.maximum(seen, 1e-9) / wanted))
    rest, rest_wanted = total - float(seen.sum()), max(total - float(wanted.sum()), 1e-9)
    if rest > 0.0:
        statistic += 2.0 * rest * float(np.log(rest / rest_wanted))
    sets = len(np.unique(who_answered(codes)[own]))
    freedom = max(int(own.sum()) + (rest_wanted >= 1.0) - sets - parameters, 1)
    over = statistic - freedom
    return Misfit(over / np.sqrt(2.0 * freedom), max(over, 0.0) / (2.0 * max(total, 1.0)))


def who_answered(codes: Codes) -> Keys:
    """(r,) bit masks of the members that answered."""
    return np.asarray((codes != ABSTAIN) @ (np.int64(1) << np.arange(codes.shape[1], dtype=np.int64)))


def log_ways(codes: Codes, labels: Floats | float) -> Floats:
    """(r,) logarithm of the number of ways to give the candidates of each row different values.

    Args:
        codes: (r, m) codes.
        labels: L, or (r,) per row; raised to the number of candidates where a row has more.
    """
    candidates = leaders(codes).sum(axis=1)
    values = np.maximum(labels, candidates)
    left = values[:, None] - np.arange(codes.shape[1])
    taken = np.arange(codes.shape[1]) < candidates[:, None]
    return np.asarray(np.where(taken, np.log(np.maximum(left, 1e-9)), 0.0).sum(axis=1))


def expected_counts(codes: Codes, counts: Floats, likelihood: Floats, labels: float) -> Floats:
    """(r,) cells that a model expects of each pattern, among those that the same members answered.

    Args:
        codes: (r, m) codes.
        counts: (r,) cells.
        likelihood: (r,) log-likelihood of the values of a cell of that pattern.
        labels: L, the number of possible values.
    """
    _, index = np.unique(who_answered(codes), return_inverse=True)
    cells = np.bincount(index, counts)[index]
    return np.asarray(cells * np.exp(likelihood + log_ways(codes, labels)))
