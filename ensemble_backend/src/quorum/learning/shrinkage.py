# SPDX-License-Identifier: Apache-2.0
"""Empirical-Bayes strength of a Beta prior that ties group rates to a common one."""

from __future__ import annotations

import math

import numpy as np

from quorum.decision.arrays import Floats

STRENGTHS = (2.0, 4.0, 7.0, 12.0, 20.0, 35.0, 60.0, 100.0, 200.0, 500.0, math.inf)


def log_evidence(right: Floats, given: Floats, rate: Floats, strength: float) -> float:
    """Log beta-binomial likelihood of (g, m) counts under ``Beta(strength rate, strength (1-rate))``.

    The binomial coefficients, which do not depend on the strength, are left out.
    """
    p = np.clip(rate, 1e-9, 1.0 - 1e-9)
    wrong = given - right
    if math.isinf(strength):
        return float((right * np.log(p) + wrong * np.log1p(-p)).sum())
    a, b = strength * p, strength * (1.0 - p)
    value = _log_gamma(a + right) - _log_gamma(a) + _log_gamma(b + wrong) - _log_gamma(b)
    return float((value - _log_gamma(strength + given) + math.lgamma(strength)).sum())


def best_strength(right: Floats, given: Floats, rate: Floats) -> float:
    """The strength of :data:`STRENGTHS` with the highest evidence; inf: the groups do not differ.

    Args:
        right: (g, m) right answers, may be fractional.
        given: (g, m) answers.
        rate: (m,) common rate.
    """
    return max(STRENGTHS, key=lambda strength: log_evidence(right, given, rate, strength))


def _log_gamma(x: Floats) -> Floats:
    return np.array([math.lgamma(value) for value in x.ravel().tolist()]).reshape(x.shape)
