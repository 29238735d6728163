# SPDX-License-Identifier: Apache-2.0
"""List every metric of a run, in the order of tables: a new one is a :class:`Metric` and a line here."""

from quorum_bench.metrics import generator, latency, llm, quality, resources, throughput
from quorum_bench.metrics.base import Metric, NoValue

ALL: tuple[Metric, ...] = (
    *latency.PERCENTILES,
    *latency.REFUSALS,
    latency.RECOVERY,
    throughput.THROUGHPUT,
    throughput.GOODPUT,
    throughput.BULK,
    throughput.FAILED,
    quality.ACCURACY,
    quality.AGGREGATION,
    llm.CALLS,
    resources.CPU,
    llm.COST,
    llm.PROMPT_TOKENS,
    llm.OUTPUT_TOKENS,
    latency.FIRST_TOKEN,
    resources.RSS,
    resources.PSS,
    resources.GPU_MEMORY,
    resources.CPU_ENERGY,
    resources.GPU_ENERGY,
    generator.LATENESS,
    generator.CPU,
    generator.NEIGHBOURS,
)
BY_KEY = {metric.key: metric for metric in ALL}

__all__ = ["ALL", "BY_KEY", "Metric", "NoValue"]
