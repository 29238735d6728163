# SPDX-License-Identifier: Apache-2.0
"""Throughput: answers that came in the window, by its length; answers/s, higher is better."""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric


def _of(run: Run) -> float:
    return run.answered / run.seconds


METRIC = Metric("throughput", "throughput", "answers/s", "higher", _of, "answers in the window / its seconds")
