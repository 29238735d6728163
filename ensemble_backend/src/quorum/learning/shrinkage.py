# SPDX-License-Identifier: Apache-2.0
"""Empirical-Bayes strength of a Beta prior that ties group rates to a common one."""

from __future__ import annotations

import math

import numpy as np

from quorum.decision.arrays import Floats

STRENGTHS = (2.0, 4.0, 7.0, 12.0, 20.0, 35.0, 60.0, 100.0, 200.0, 500.0, math.inf)


def log_gamma(x: Floats) -> Floats:
    """Log Gamma for x > 0, by Stirling's series after shifting x above 8; relative error below 1e-10."""
    shift = np.zeros_like(x)
    y = x.copy()
    for _ in range(8):
        low = y < 8.0
        shift = np.where(low, shift + np.log(y), shift)
        y = np.where(low, y + 1.0, y)
    inverse = 1.0 / y
    square = inverse * inverse
    series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))
    return np.asarray((y - 0.5) * np.log(y) - y + 0.5 * math.log(2.0 * math.pi) + series - shift)


def log_evidence(right: Floats, given: Floats, rate: Floats, strength: float) -> float:
    """Log beta-binomial likelihood of (g, m) counts under ``Beta(strength rate, strength (1-rate))``.

    The binomial coefficients, which do not depend on the strength, are left out.
    """
    p = np.clip(rate, 1e-9, 1.0 - 1e-9)
    wrong = given - right
    if math.isinf(strength):
        return float((right * np.log(p) + wrong * np.log1p(-p)).sum())
    a, b = np.broadcast_to(strength * p, right.shape), np.broadcast_to(strength * (1.0 - p), right.shape)
    total = np.full_like(right, strength)
    value = log_gamma(a + right) - log_gamma(a) + log_gamma(b + wrong) - log_gamma(b)
    return float((value - log_gamma(total + given) + log_gamma(total)).sum())


def best_strength(right: Floats, given: Floats, rate: Floats) -> float:
    """The strength of :data:`STRENGTHS` with the highest evidence; inf: the groups do not differ.

    Args:
        right: (g, m) right answers, may be fractional.
        given: (g, m) answers.
        rate: (m,) common rate.
    """
    return max(STRENGTHS, key=lambda strength: log_evidence(right, given, rate, strength))
