# SPDX-License-Identifier: Apache-2.0
"""CPU cost: CPU seconds of the target's processes in the window per 1 000 answers; s, lower is better."""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if not run.answered:
        raise NoValue("nothing was answered")
    return (run.last.cpu_s - run.first.cpu_s) / run.answered * 1000.0


METRIC = Metric(
    "cpu", "CPU per 1 000 answers", "s", "lower", _of, "CPU seconds of the target / answers x 1 000"
)
