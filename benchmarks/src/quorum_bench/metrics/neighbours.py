# SPDX-License-Identifier: Apache-2.0
"""CPU of neighbours: what neither the target nor the benchmark used of the machine; cores.

Much of it, and the run says more about the neighbours than about the target.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric


def _of(run: Run) -> float:
    return run.others_cpu


METRIC = Metric(
    "neighbours_cpu", "CPU of neighbours", "cores", "", _of, "(machine's - target's - benchmark's CPU) / time"
)
