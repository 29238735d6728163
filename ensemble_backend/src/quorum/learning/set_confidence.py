# SPDX-License-Identifier: Apache-2.0
"""Learn what the confidence of a set says about the chance that the whole answer is right.

Platt, *Probabilistic Outputs for Support Vector Machines*, 1999: a line between log odds, of two numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.sets import log_odds
from quorum.learning.newton import minimise

_RIDGE = 1.0
"""How strongly the line is drawn to the confidence itself: as by about four answers."""


def fit_chance(confidence: Floats, right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Intercept and slope, of :func:`quorum.decision.sets.chance_of`; the slope is not negative.

    Args:
        confidence: (n,) in [0, 1], of answers whose gold did not teach the weights.
        right: (n,) whether the whole answer is right.
    """
    x = np.stack([np.ones(len(confidence)), [log_odds(value) for value in confidence.tolist()]], axis=1)
    start = np.array([0.0, 1.0])

    def loss(points: Floats) -> tuple[Floats, Floats, Floats]:
        odds = points @ x.T
        share = 1.0 / (1.0 + np.exp(-np.clip(odds, -700.0, 700.0)))
        away = points - start
        value = (np.logaddexp(0.0, odds) - odds * right).sum(axis=1) + 0.5 * _RIDGE * (away**2).sum(axis=1)
        gradient = (share - right) @ x + _RIDGE * away
        curvature = np.einsum("gn,ni,nj->gij", share * (1.0 - share), x, x) + _RIDGE * np.eye(2)
        return value, gradient, curvature

    line = minimise(loss, start[None], np.array([-np.inf, 0.0]))[0]
    return round(float(line[0]), 6), round(float(line[1]), 6)
