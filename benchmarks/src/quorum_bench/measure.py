# SPDX-License-Identifier: Apache-2.0
"""Measure one point once: load, snapshots, and the window in which both are steady."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quorum_bench.load import Generated, Load, run_load
from quorum_bench.samples import Samples
from quorum_bench.steady import truncation
from quorum_bench.targets import CallerSpec, StepTimes, Target
from quorum_bench.usage import Recorder, Snapshot, cpu_seconds, descendants, pss_bytes

SATURATED = 0.85
"""A generator that used more than this share of a core may have measured itself."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of machine and tokens, in one currency.

    Attributes:
        machine_per_hour: Price of the server's machine.
        tokens_per_million: Member -> price of a million prompt tokens and of a million generated tokens.
    """

    machine_per_hour: float = 0.0
    tokens_per_million: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Mean tokens of one request to one member."""

    prompt: float
    generated: float


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of one run of one point, between two snapshots of a steady target.

    Attributes:
        samples: Requests meant to be sent in the window.
        answered: Answers that arrived in the window, also to requests from before it.
        first: Snapshot at its start.
        last: Snapshot at its end.
        rss_peak_bytes: Largest memory in it.
        pss_bytes: Memory right after the load, shared pages split.
        gpu_w: Mean power of all GPUs in it; ``None`` without one.
        generator_cpu: Share of a core that the busiest generator used.
        generators_cpu: Cores that all generators used.
        others_cpu: Cores' worth of CPU that neither target nor benchmark used: neighbours on the machine.
        steady: Whether latency had settled (MSER-5).
        members: The target's.
        tokens: Member -> tokens a request, where known.
        prices: Of machine and tokens, where given.
        slo_ms: Latency objective.
        calls: Calls of members per answer, as answers say; None: they do not.
        cost: Cost per answer by the prices of the deployment, likewise.
        repeated: Whether shorter runs before it saw no answer.
    """

    samples: Samples
    answered: int
    first: Snapshot
    last: Snapshot
    rss_peak_bytes: int
    pss_bytes: int
    gpu_w: float | None
    generator_cpu: float
    generators_cpu: float
    others_cpu: float
    steady: bool
    members: Sequence[str]
    tokens: Mapping[str, Tokens]
    prices: Prices | None
    slo_ms: float | None
    calls: float | None = None
    cost: float | None = None
    repeated: bool = False

    @property
    def has_answers(self) -> bool:
        """Whether an answer came in the window, and one to a request of the window."""
        return bool(self.answered and len(self.samples.latency_ms))

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.last.at_ns - self.first.at_ns) / 1e9

    def step(self, name: str) -> StepTimes:
        """Requests and times of a step in the window."""
        nothing = StepTimes(0, 0, 0)
        before, after = self.first.steps.get(name, nothing), self.last.steps.get(name, nothing)
        return StepTimes(
            after.count - before.count,
            after.queue_ns - before.queue_ns,
            after.compute_ns - before.compute_ns,
        )

    @property
    def window_ns(self) -> tuple[int, int]:
        """Start and end, monotonic."""
        return self.first.at_ns, self.last.at_ns


@dataclass(frozen=True, slots=True)
class Point:
    """A target under a load, to be measured.

    Attributes:
        target: A started target.
        caller: Its caller.
        load: Closed or open loop.
        labels: Distinguish the point from others of its scenario.
        tokens: Member -> tokens a request, where known.
        slo_ms: Latency objective.
        generators: Processes that share the load.
    """

    target: Target
    caller: CallerSpec
    load: Load
    labels: Mapping[str, str | int | float]
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    slo_ms: float | None = None
    generators: int = 1


@dataclass(frozen=True, slots=True)
class Effort:
    """Length and number of runs.

    Attributes:
        seconds: Measured time of a run.
        warmup_s: Time before it, under the same load.
        runs: Runs of every point.
    """

    seconds: float
    warmup_s: float
    runs: int


def measure(point: Point, effort: Effort, prices: Prices | None = None) -> tuple[Run, Samples]:
    """Measure a point once.

    Returns:
        The run, and all samples, with those of the warm-up.

    Raises:
        LoadError: A generator failed.
    """
    target = point.target
    own = cpu_seconds([os.getpid()])
    with Recorder(target.pids, target.steps) as recorder:
        generated = run_load(point.caller, point.load, effort.warmup_s + effort.seconds, point.generators)
    own = cpu_seconds([os.getpid()]) - own
    first, last, steady = _window(generated, recorder.snapshots, effort.warmup_s)
    inside = [s for s in recorder.snapshots if first.at_ns <= s.at_ns <= last.at_ns]
    whole = recorder.snapshots
    length_s = (whole[-1].at_ns - whole[0].at_ns) / 1e9
    busy = whole[-1].busy_s - whole[0].busy_s - (whole[-1].cpu_s - whole[0].cpu_s) - own
    watts = [s.gpu_w for s in inside if s.gpu_w is not None]
    run = Run(
        samples=generated.samples.between(first.at_ns, last.at_ns),
        answered=generated.samples.answered_between(first.at_ns, last.at_ns),
        first=first,
        last=last,
        rss_peak_bytes=max(s.rss_bytes for s in inside),
        pss_bytes=pss_bytes(descendants(target.pids())),
        gpu_w=float(np.mean(watts)) if watts else None,
        generator_cpu=generated.cpu_share,
        generators_cpu=generated.cpu_cores,
        others_cpu=max(0.0, busy / length_s),
        steady=steady,
        members=tuple(target.members),
        tokens=point.tokens,
        prices=prices,
        slo_ms=point.slo_ms,
        calls=generated.calls,
        cost=generated.cost,
    )
    return run, generated.samples


def _window(
    generated: Generated, snapshots: Sequence[Snapshot], warmup_s: float
) -> tuple[Snapshot, Snapshot, bool]:
    """Find the steady window: after the warm-up and the samples that MSER-5 leaves out."""
    start = generated.start_ns + int(warmup_s * 1e9)
    kept = generated.samples.between(start, generated.stop_ns)
    answered = kept.where(kept.ok)
    skip, steady = truncation(answered.latency_ms)
    if skip:
        start = int(answered.intended_ns[min(skip, len(answered) - 1)])
    inside = [s for s in snapshots if start <= s.at_ns <= generated.stop_ns]
    if len(inside) < 2:
        # Too short for two snapshots: take those around it.
        before = [s for s in snapshots if s.at_ns <= start] or [snapshots[0]]
        after = [s for s in snapshots if s.at_ns >= generated.stop_ns] or [snapshots[-1]]
        return before[-1], after[0], steady
    return inside[0], inside[-1], steady
