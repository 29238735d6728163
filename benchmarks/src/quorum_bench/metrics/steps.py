# SPDX-License-Identifier: Apache-2.0
"""Server-side breakdown.

Mean time per request that each step waited (queue) and was worked on (compute, with tensors in and out),
from the server's own statistics in the window; ms.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorum_bench.measure import Run


@dataclass(frozen=True, slots=True)
class StepMeans:
    """Of one step, per request: ms."""

    count: int
    queue_ms: float
    compute_ms: float


def steps_of(run: Run) -> dict[str, StepMeans]:
    """Per step of the target that did anything in the window; empty if the target keeps no statistics."""
    found = {}
    for name in run.last.steps:
        step = run.step(name)
        if step.count:
            found[name] = StepMeans(
                step.count, step.queue_ns / step.count / 1e6, step.compute_ns / step.count / 1e6
            )
    return found
