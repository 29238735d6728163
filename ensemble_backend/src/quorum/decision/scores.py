# SPDX-License-Identifier: Apache-2.0
"""Reduce the score of a vote to one of a few levels, so that votes with equal levels weigh the same.

A score is the log-probability of the value's tokens that the member itself gave, in nats. Its log odds,
``log(p / (1 - p))``, are cut into :data:`LEVELS` levels, each of which stands for one number of
:data:`LOG_ODDS`. Levels keep histograms of votes small and additive, and make the same decision on every
machine: a logarithm may differ in its last bit, a comparison may not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

NO_SCORE = -1
LOG_ODDS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Log odds that each level stands for, rising."""
LEVELS = len(LOG_ODDS)
EDGES = tuple(-math.log1p(math.exp(-0.5 * (low + high))) for low, high in pairwise(LOG_ODDS))
"""Lowest score of each level but the first."""


def level_of(score: float | None) -> int:
    """Level of a score, :data:`NO_SCORE` for None and nan."""
    return NO_SCORE if score is None or score != score else bisect_right(EDGES, score)


def log_odds_of(levels: npt.NDArray[np.int8], missing: float = 0.0) -> npt.NDArray[np.float64]:
    """Log odds that levels stand for; ``missing`` where there is no score."""
    return np.where(levels == NO_SCORE, missing, np.array(LOG_ODDS)[np.maximum(levels, 0)])


def levels_of(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int8]:
    """:func:`level_of` over an array of any shape, nan where there is no score."""
    levels = np.searchsorted(EDGES, np.nan_to_num(scores, nan=0.0), side="right")
    return np.where(np.isnan(scores), NO_SCORE, levels).astype(np.int8)
