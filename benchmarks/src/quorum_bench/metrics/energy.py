# SPDX-License-Identifier: Apache-2.0
"""Energy per 1 000 answers, joules, lower is better.

CPU packages by RAPL (everything that runs on them), GPUs by their mean power times the window.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _cpu(run: Run) -> float:
    if run.first.rapl_j is None or run.last.rapl_j is None:
        raise NoValue("the energy counters (RAPL) cannot be read here; as root on bare metal they can")
    used = run.last.rapl_j - run.first.rapl_j
    if used < 0 or not run.answered:
        raise NoValue("the energy counter ran over" if used < 0 else "nothing was answered")
    return used / run.answered * 1000.0


def _gpu(run: Run) -> float:
    if run.gpu_w is None:
        raise NoValue("no GPU here")
    if not run.answered:
        raise NoValue("nothing was answered")
    return run.gpu_w * run.seconds / run.answered * 1000.0


METRICS = (
    Metric(
        "cpu_energy", "CPU energy per 1 000", "J", "lower", _cpu, "joules of the packages / answers x 1 000"
    ),
    Metric(
        "gpu_energy", "GPU energy per 1 000", "J", "lower", _gpu, "mean watts x seconds / answers x 1 000"
    ),
)
