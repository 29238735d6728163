# SPDX-License-Identifier: Apache-2.0
"""Find the end of the warm-up by MSER-5.

White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6), 1997;
White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics for simulation", WSC 2000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BATCH = 5
_FEWEST_BATCHES = 10


def truncation(series: npt.NDArray[np.float64]) -> tuple[int, bool]:
    """Number of observations to leave out at the start.

    The observations are averaged in batches of five; left out are the ``d`` batches that make the squared
    standard error of the rest, ``sum (z_j - mean)^2 / (n - d)^2``, smallest, over ``d <= n / 2``. A
    minimum at the end of that range means that the series had not settled.

    Args:
        series: Observations in the order of time.

    Returns:
        The count, a multiple of five, and whether the rest is steady. Fewer than 50 observations: 0, True.
    """
    count = len(series) // _BATCH
    if count < _FEWEST_BATCHES:
        return 0, True
    z = series[: count * _BATCH].reshape(count, _BATCH).mean(axis=1)
    left = np.arange(count, 0, -1)
    total, squares = np.cumsum(z[::-1])[::-1], np.cumsum((z * z)[::-1])[::-1]
    spread = np.maximum(0.0, squares - total * total / left)
    half = count // 2
    score = (spread / (left * left.astype(np.float64)))[: half + 1]
    best = int(np.argmin(score))
    return best * _BATCH, best < half
