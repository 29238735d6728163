# SPDX-License-Identifier: Apache-2.0
"""CPU of the generator: CPU time of the busiest generator process by its running time; percent of one core.

Near 100 % the benchmark measures itself.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric


def _of(run: Run) -> float:
    return 100.0 * run.generator_cpu


METRIC = Metric("generator_cpu", "generator CPU", "%", "", _of, "CPU time of the busiest generator / time")
