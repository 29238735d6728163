# SPDX-License-Identifier: Apache-2.0
"""Memory of the target's processes; MiB, lower is better.

RSS counts shared pages in every process and is the peak of the window; PSS splits them and is read once,
right after the load.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric

_MIB = 1024.0 * 1024.0


def _rss(run: Run) -> float:
    return run.rss_peak_bytes / _MIB


def _pss(run: Run) -> float:
    return run.pss_bytes / _MIB


METRICS = (
    Metric("rss", "RSS peak", "MiB", "lower", _rss, "largest sum of resident memory over the processes"),
    Metric("pss", "PSS", "MiB", "lower", _pss, "sum of proportional memory over the processes"),
)
