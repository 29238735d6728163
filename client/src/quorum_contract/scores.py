# SPDX-License-Identifier: Apache-2.0
"""Tell the scores of votes from other numbers."""

from __future__ import annotations

LOWEST_SCORE = -float.fromhex("0x1.fffffep+127")
"""The lowest score: the least finite number of a ``FP32`` tensor."""
ROUNDING = 1e-3
"""How far above 0 the rounding of a runtime may put a log-probability."""


def valid_score(number: float) -> float | None:
    """Return a number as the log-probability that it can be, at most 0; None for nan and all others."""
    return min(number, 0.0) + 0.0 if LOWEST_SCORE <= number <= ROUNDING else None
