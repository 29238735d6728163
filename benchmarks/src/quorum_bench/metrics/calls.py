# SPDX-License-Identifier: Apache-2.0
"""Calls per answer: member requests that the server worked on, by its answers; calls, lower is better.

Equals the number of members where all are asked; a channel that stops early needs fewer.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if not run.last.steps:
        raise NoValue("the target keeps no statistics by member")
    if not run.answered:
        raise NoValue("nothing was answered")
    return sum(run.step(member).count for member in run.members) / run.answered


METRIC = Metric("calls", "LLM calls per answer", "calls", "lower", _of, "requests to members / answers")
