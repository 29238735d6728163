# SPDX-License-Identifier: Apache-2.0
"""Lateness and CPU of the load generator, and CPU of neighbours: how far the other figures can be trusted.

Lateness is part of the latency of an open loop: a large one means that the generator, not the target, was
slow; it is zero by definition in a closed loop. With the generator near 100 % of a core the benchmark
measures itself. Much CPU of neighbours makes a run say more about them than about the target.
"""

from __future__ import annotations

from quorum.evaluation.stats import quantile
from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _lateness(run: Run) -> float:
    if not len(run.samples):
        raise NoValue("nothing was sent")
    return quantile(run.samples.lateness_ms, 0.99)


def _cpu(run: Run) -> float:
    return 100.0 * run.generator_cpu


def _neighbours(run: Run) -> float:
    return run.others_cpu


LATENESS = Metric(
    "lateness_p99", "generator late p99", "ms", "", _lateness, "99th percentile of (sent - meant)"
)
CPU = Metric("generator_cpu", "generator CPU", "%", "", _cpu, "CPU time of the busiest generator / time")
NEIGHBOURS = Metric(
    "neighbours_cpu",
    "CPU of neighbours",
    "cores",
    "",
    _neighbours,
    "(machine's - target's - benchmark's CPU) / time",
)
