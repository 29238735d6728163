# SPDX-License-Identifier: Apache-2.0
"""Latency: percentiles of ``done - intended`` over the answered requests of the window; ms, lower is better.

Counted from the time at which a request was *meant* to be sent, so that waiting caused by earlier slow
answers is in it. Failed requests have no latency; see ``failed``.
"""

from __future__ import annotations

import numpy as np

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


def _metric(name: str, q: float) -> Metric:
    def of(run: Run) -> float:
        latency = run.samples.latency_ms
        if not len(latency):
            raise NoValue("nothing was answered")
        return float(np.quantile(latency, q))

    return Metric(
        f"latency_{name}",
        f"latency {name}",
        "ms",
        "lower",
        of,
        f"{'largest' if name == 'max' else name[1:] + 'th percentile of'} (answered - meant to be sent)",
    )


METRICS = tuple(_metric(name, q) for name, q in QUANTILES.items())
