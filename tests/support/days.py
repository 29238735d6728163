# SPDX-License-Identifier: Apache-2.0
"""Days of quotas and budgets, which end at 00:00 UTC."""

from __future__ import annotations

import time

_DAY_S = 86_400
_NEEDED_S = 120.0


def in_one_day() -> None:
    """Wait for the next day where this one is nearly over: what a test counts is of one day then."""
    left_s = _DAY_S - time.time() % _DAY_S
    if left_s < _NEEDED_S:
        time.sleep(left_s + 1.0)
