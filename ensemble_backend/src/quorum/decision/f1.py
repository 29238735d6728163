# SPDX-License-Identifier: Apache-2.0
"""F1 of what an answer names and what it should name, from three counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def f1(shared: float, named: float, wanted: float, *, empty: float = math.nan) -> float:
    """Harmonic mean of precision and recall, in [0, 1]: ``2 shared / (named + wanted)``.

    Args:
        shared: Things that are both named and wanted.
        named: Things in the answer.
        wanted: Things in the gold answer.
        empty: What it is where nothing is named and nothing wanted.
    """
    return 2.0 * shared / (named + wanted) if named or wanted else empty


def set_counts(answer: frozenset[T], accepted: Sequence[frozenset[T]]) -> tuple[int, int, int]:
    """Shared, named and wanted things, of the acceptable answer that fits best; zeros where there is none."""
    fits = ((len(answer & gold), len(answer), len(gold)) for gold in accepted)
    return max(fits, key=lambda fit: (f1(*fit, empty=0.0), -fit[2]), default=(0, 0, 0))


def f1_of_sets(answer: frozenset[T], accepted: Sequence[frozenset[T]]) -> float:
    """The highest F1 of an answer with one of the acceptable ones, 1 for two empty ones; 0 without any."""
    fits = (f1(len(answer & gold), len(answer), len(gold), empty=1.0) for gold in accepted)
    return max(fits, default=0.0)
