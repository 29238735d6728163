# SPDX-License-Identifier: Apache-2.0
"""GPU memory of the target's processes, largest of the window, by ``nvidia-smi``; MiB, lower is better."""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if run.last.gpu_bytes is None:
        raise NoValue("no GPU here")
    return max(run.first.gpu_bytes or 0, run.last.gpu_bytes) / (1024.0 * 1024.0)


METRIC = Metric("gpu_memory", "GPU memory", "MiB", "lower", _of, "GPU memory of the target's processes")
