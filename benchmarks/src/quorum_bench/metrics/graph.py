# SPDX-License-Identifier: Apache-2.0
"""Overhead of the serving graph and time in each of its steps.

Ensemble and members are asked through the same server, in interleaved runs, and compared at the same
quantile. With all members side by side on enough cores and a graph that costs nothing the overhead would be
zero. Times in the steps come from the server's own statistics in the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quorum.evaluation.stats import Estimate, Floats, quantile
from quorum_bench.bootstrap import interval_of, quantile_draws
from quorum_bench.measure import Run


def overhead(
    ensemble: Sequence[Floats], members: Mapping[str, Sequence[Floats]], q: float = 0.5
) -> tuple[Estimate, str]:
    """Return how much longer the ensemble takes than its slowest member alone, with its interval.

    Args:
        ensemble: Per run latencies in ms.
        members: Member -> per run latencies in ms.
        q: The quantile.

    Returns:
        Ensemble minus slowest member, ms, and that member's name. Which member is slowest is decided anew in
        every bootstrap draw, so its uncertainty is in the interval.
    """
    whole = float(np.median([quantile(run, q) for run in ensemble]))
    alone = {m: float(np.median([quantile(run, q) for run in runs])) for m, runs in members.items()}
    slowest = max(alone, key=lambda name: alone[name])
    draws = quantile_draws(ensemble, [q], seed=1)[0]
    others = np.stack([quantile_draws(runs, [q], seed=2 + i)[0] for i, runs in enumerate(members.values())])
    return interval_of(whole - alone[slowest], draws - others.max(axis=0)), slowest


@dataclass(frozen=True, slots=True)
class StepMeans:
    """Mean times of one step per request: in its queue, and at work with tensors in and out; ms."""

    count: int
    queue_ms: float
    compute_ms: float


def steps_of(run: Run) -> dict[str, StepMeans]:
    """Return the steps of the target that did anything in the window; none if it keeps no statistics."""
    means = {}
    for name in run.last.steps:
        step = run.step(name)
        if step.count:
            means[name] = StepMeans(
                step.count, step.queue_ns / step.count / 1e6, step.compute_ns / step.count / 1e6
            )
    return means
