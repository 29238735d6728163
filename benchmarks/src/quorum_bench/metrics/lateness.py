# SPDX-License-Identifier: Apache-2.0
"""Lateness of the generator: 99th percentile of ``sent - intended``; ms.

It is part of the latency of an open loop, so a large one says that the generator, not the target, was
slow. Zero by definition in a closed loop.
"""

from __future__ import annotations

import numpy as np

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if not len(run.samples):
        raise NoValue("nothing was sent")
    return float(np.quantile(run.samples.lateness_ms, 0.99))


METRIC = Metric("lateness_p99", "generator late p99", "ms", "", _of, "99th percentile of (sent - meant)")
