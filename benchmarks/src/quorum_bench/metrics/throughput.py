# SPDX-License-Identifier: Apache-2.0
"""Throughput, goodput and failures: how many requests of the window got a whole answer, and in time."""

from __future__ import annotations

import numpy as np

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue, no_value


def _throughput(run: Run) -> float:
    return run.answered / run.seconds


def _goodput(run: Run) -> float:
    """A late answer counts as none."""
    if run.slo_ms is None:
        raise NoValue("no latency objective was given")
    return int(np.count_nonzero(run.samples.latency_ms <= run.slo_ms)) / run.seconds


def _failed(run: Run) -> float:
    if not len(run.samples):
        raise NoValue("nothing was sent")
    return 100.0 * (1.0 - float(np.mean(run.samples.ok)))


THROUGHPUT = Metric(
    "throughput", "throughput", "answers/s", "higher", _throughput, "answers in the window / its seconds"
)
GOODPUT = Metric(
    "goodput", "goodput", "answers/s", "higher", _goodput, "answers within the latency objective / seconds"
)
BULK = Metric(
    "bulk",
    "bulk answers",
    "answers/s",
    "higher",
    no_value("only the scenario bulk has a bulk run"),
    "answers of the bulk run in the window / its seconds",
)
FAILED = Metric("failed", "failed", "%", "lower", _failed, "requests without a whole answer / requests")
