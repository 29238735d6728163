# SPDX-License-Identifier: Apache-2.0
"""Turn clicks and scores of a search engine into targets that a student can learn.

Clicks are debiased by inverse propensity (Joachims et al., WSDM 2017, arXiv:1608.04468). The assumption: a
buyer looks at position p with chance 1 / p ** b, whatever is shown there, and clicks only what was looked at.
Then clicks / (impressions / p ** b) estimates how often a look leads to a click. Pairs that search never
showed have no target: that a pair has no click is no evidence against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_PRIOR_LOOKS = 1.0
"""Looks at the mean rate that each pair is given: one click of one look is not certainty."""


def click_targets(
    clicks: Floats, impressions: Floats, positions: Floats, bias: float
) -> npt.NDArray[np.float32]:
    """Return (n,) debiased click rates, over the largest one.

    Args:
        clicks: (n,).
        impressions: (n,), above 0.
        positions: (n,), from 1.
        bias: The exponent b; 0: every position is looked at.
    """
    looks = impressions / positions**bias
    mean = clicks.sum() / looks.sum()
    rates = (clicks + mean * _PRIOR_LOOKS) / (looks + _PRIOR_LOOKS)
    return np.asarray(rates / max(rates.max(), 1e-12), np.float32)


def relevance_targets(scores: Floats, keyphrases: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return (n,) scores over the largest of their keyphrase: those of different ones do not compare."""
    largest: dict[str, float] = defaultdict(float)
    for score, keyphrase in zip(scores.tolist(), keyphrases, strict=True):
        largest[keyphrase] = max(largest[keyphrase], score)
    tops = np.array([largest[keyphrase] or 1.0 for keyphrase in keyphrases])
    return np.asarray(scores / tops, np.float32)
