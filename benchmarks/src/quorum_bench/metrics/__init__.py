# SPDX-License-Identifier: Apache-2.0
"""One metric a file, each with its unit and its formula; all that a run can be measured by."""

from quorum_bench.metrics import (
    accuracy,
    aggregation,
    calls,
    cost,
    cpu,
    energy,
    failed,
    first_token,
    generator_cpu,
    goodput,
    gpu_memory,
    latency,
    lateness,
    memory,
    neighbours,
    throughput,
    tokens,
)
from quorum_bench.metrics.base import Metric, NoValue

ALL: tuple[Metric, ...] = (
    *latency.METRICS,
    throughput.METRIC,
    goodput.METRIC,
    failed.METRIC,
    accuracy.METRIC,
    aggregation.METRIC,
    calls.METRIC,
    cpu.METRIC,
    cost.METRIC,
    *tokens.METRICS,
    first_token.METRIC,
    *memory.METRICS,
    gpu_memory.METRIC,
    *energy.METRICS,
    lateness.METRIC,
    generator_cpu.METRIC,
    neighbours.METRIC,
)
BY_KEY = {metric.key: metric for metric in ALL}

__all__ = ["ALL", "BY_KEY", "Metric", "NoValue"]
