# SPDX-License-Identifier: Apache-2.0
"""Goodput: requests answered within the latency objective, by the window; answers/s, higher is better.

A late answer counts as none.
"""

from __future__ import annotations

import numpy as np

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if run.slo_ms is None:
        raise NoValue("no latency objective was given")
    return int(np.count_nonzero(run.samples.latency_ms <= run.slo_ms)) / run.seconds


METRIC = Metric(
    "goodput", "goodput", "answers/s", "higher", _of, "answers within the latency objective / seconds"
)
