# SPDX-License-Identifier: Apache-2.0
"""Sum the log-probabilities that an LLM gave to the tokens of a value, as the score of a vote."""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from quorum_contract.scores import valid_score

_FLOAT32 = struct.Struct("<f")


class Span(NamedTuple):
    """Characters of a text, from ``start`` up to but not with ``end``."""

    start: int
    end: int


def score_of(span: Span, ends: Sequence[int], log_probs: Sequence[float]) -> float | None:
    """Sum the log-probabilities of the tokens that overlap a span, rounded to float32.

    A token that reaches over a border of the span counts as a whole. A token without a character of its own,
    of which several make one character, counts for the character that follows it.

    Args:
        span: A value's text with its closing quote.
        ends: (t,) characters of the text up to and with each token, never falling.
        log_probs: (t,) of the tokens.

    Returns:
        At most 0. None: no token overlaps, tokens do not reach the end of the span, or what the tokens add up
        to is no log-probability: not a finite number, or above 0 by more than rounding.
    """
    start, end = span
    if not ends or len(ends) != len(log_probs) or start >= end or ends[-1] < end:
        return None
    first = bisect_right(ends, start)
    # Tokens without characters that lie at the start: all with this end but the one that reached it.
    reached = bisect_left(ends, start)
    if reached < first:
        first = reached if start == 0 else reached + 1
    score = valid_score(sum(log_probs[first : bisect_left(ends, end) + 1]))
    return None if score is None else rounded(score)


def as_probability(score: float) -> str:
    """Write a score as a probability for people, short; none is shown as certain or impossible."""
    probability = math.exp(score)
    if 0.005 <= probability < 0.995:
        return f"p={probability:.2f}".replace("0.", ".")
    return "p<.01" if probability < 0.5 else "p>.99"


def rounded(score: float) -> float:
    """Return the float32 next to a score, so that a score is equal in every format that it is written in."""
    number: float = _FLOAT32.unpack(_FLOAT32.pack(score))[0]
    return number
