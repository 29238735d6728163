# SPDX-License-Identifier: Apache-2.0
"""How many CPU threads PyTorch may use."""

from __future__ import annotations

import os


def threads_of(wanted: int | None) -> int:
    """The number wanted; None: that of ``OMP_NUM_THREADS``, else one for each core of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return wanted or (int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0)))
