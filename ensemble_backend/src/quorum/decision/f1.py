# SPDX-License-Identifier: Apache-2.0
"""F1 of what an answer names and what it should name, from three counts."""

from __future__ import annotations

import math


def f1(shared: float, named: float, wanted: float, *, empty: float = math.nan) -> float:
    """Harmonic mean of precision and recall, in [0, 1]: ``2 shared / (named + wanted)``.

    Args:
        shared: Things that are both named and wanted.
        named: Things in the answer.
        wanted: Things in the gold answer.
        empty: What it is where nothing is named and nothing wanted.
    """
    return 2.0 * shared / (named + wanted) if named or wanted else empty
