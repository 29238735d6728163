# SPDX-License-Identifier: Apache-2.0
"""CPU, memory and energy that the target's processes take; lower is better.

RSS counts shared pages in every process and is the peak of the window; PSS splits them and is read once,
right after the load. CPU energy is that of the packages by RAPL (everything that runs on them), GPU energy
the mean power times the window; GPU figures come from ``nvidia-smi``.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue, per_1000_answers

_MIB = 1024.0 * 1024.0


def _cpu(run: Run) -> float:
    return per_1000_answers(run, run.last.cpu_s - run.first.cpu_s)


def _rss(run: Run) -> float:
    return run.rss_peak_bytes / _MIB


def _pss(run: Run) -> float:
    return run.pss_bytes / _MIB


def _gpu_memory(run: Run) -> float:
    if run.last.gpu_bytes is None:
        raise NoValue("no GPU here")
    return max(run.first.gpu_bytes or 0, run.last.gpu_bytes) / _MIB


def _cpu_energy(run: Run) -> float:
    if run.first.rapl_j is None or run.last.rapl_j is None:
        raise NoValue("the energy counters (RAPL) cannot be read here; as root on bare metal they can")
    used = run.last.rapl_j - run.first.rapl_j
    if used < 0:
        raise NoValue("the energy counter ran over")
    return per_1000_answers(run, used)


def _gpu_energy(run: Run) -> float:
    if run.gpu_w is None:
        raise NoValue("no GPU here")
    return per_1000_answers(run, run.gpu_w * run.seconds)


CPU = Metric(
    "cpu", "CPU per 1 000 answers", "s", "lower", _cpu, "CPU seconds of the target / answers x 1 000"
)
RSS = Metric("rss", "RSS peak", "MiB", "lower", _rss, "largest sum of resident memory over the processes")
PSS = Metric("pss", "PSS", "MiB", "lower", _pss, "sum of proportional memory over the processes")
GPU_MEMORY = Metric(
    "gpu_memory", "GPU memory", "MiB", "lower", _gpu_memory, "GPU memory of the target's processes"
)
CPU_ENERGY = Metric(
    "cpu_energy",
    "CPU energy per 1 000",
    "J",
    "lower",
    _cpu_energy,
    "joules of the packages / answers x 1 000",
)
GPU_ENERGY = Metric(
    "gpu_energy", "GPU energy per 1 000", "J", "lower", _gpu_energy, "mean watts x seconds / answers x 1 000"
)
