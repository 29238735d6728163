# SPDX-License-Identifier: Apache-2.0
"""Measure how much longer the ensemble takes than its slowest member."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.evaluation.stats import Estimate
from quorum_bench.bench import Bench, Measured, Scenario, value_of
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.metrics.graph import overhead
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.floor import FloorTarget
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

MEMBERS = 5
_AIM_MS = 1.0
_THINK_MS = (10, 12, 14, 16, 18)
_WORKLOAD = Workload.made(attributes=5)


def _play(bench: Bench) -> ScenarioResult:
    with _target([0] * MEMBERS) as at_once, _target(_THINK_MS) as thinking, _floor() as floor:
        quick, slow, empty = (
            _points(at_once, "none", list(at_once.members)),
            # Of members that differ by far more than the graph costs, only the last can be the slowest.
            _points(thinking, "10 to 18 ms", list(thinking.members)[-1:]),
            _points(floor, "nothing is done", list(floor.members)[:1]),
        )
        measured = bench.measure(SCENARIO.name, [*quick, *slow, *empty])
    quick_runs, slow_runs = measured[: len(quick)], measured[len(quick) : -len(empty)]
    findings = [
        *_findings(quick_runs, "that answer at once, all at the same moment,"),
        *_findings(slow_runs, f"that think {_THINK_MS[0]} to {_THINK_MS[-1]} ms"),
        *_of_triton(quick_runs, measured[-len(empty) :]),
    ]
    plot = Plot(title="asked one request at a time", x="asked", y=["latency_p50"], series="thinking")
    return SCENARIO.result(measured, findings=findings, plots=[plot])


def _target(think_ms: Sequence[float]) -> QuorumTarget:
    members = {
        f"m{i}": {"latency_ms": ms, "latency_shape": "constant"} if ms else {}
        for i, ms in enumerate(think_ms)
    }
    return QuorumTarget(_WORKLOAD, members)


def _floor() -> FloorTarget:
    return FloorTarget(_WORKLOAD, {f"m{i}": {} for i in range(MEMBERS)})


def _points(target: QuorumTarget, thinking: str, members: Sequence[str]) -> list[Point]:
    """Return the points: the ensemble, then members alone."""
    callers = {"ensemble": target.caller(_WORKLOAD)}
    callers |= {name: target.member_caller(_WORKLOAD, name) for name in members}
    return [
        Point(target, caller, Closed(1), {"asked": name, "thinking": thinking})
        for name, caller in callers.items()
    ]


def _findings(measured: Sequence[Measured], what: str) -> list[Finding]:
    ensemble, *alone = measured
    members = {str(m.labels["asked"]): m.latencies for m in alone}
    p50, slowest = overhead(ensemble.latencies, members, 0.5)
    p99, _ = overhead(ensemble.latencies, members, 0.99)
    return [
        Finding(
            text=_longer(f"five members {what}", "take", f"at p50 than the slowest alone ({slowest})", p50),
            value=value_of(p50),
            unit="ms",
            no_effect=0,
            aim=f"under {_AIM_MS:g} ms",
            met=p50.value < _AIM_MS,
        ),
        Finding(text=_longer("they", "take", "at p99", p99), value=value_of(p99), unit="ms", no_effect=0),
    ]


def _longer(what: str, verb: str, than: str, difference: Estimate) -> str:
    """Say what takes longer than what: a figure without an overhead is called none."""
    if difference.low > 0:
        return f"{what} {verb} longer {than} by"
    return f"{what} {verb} no longer {than}; difference"


def _of_triton(quick: Sequence[Measured], empty: Sequence[Measured]) -> list[Finding]:
    """Split the overhead into Triton's part and that of this product's code."""
    ensemble, member = empty
    floor, _ = overhead(ensemble.latencies, {"m0": member.latencies}, 0.5)
    added, _ = overhead(quick[0].latencies, {"floor": ensemble.latencies}, 0.5)
    return [
        Finding(
            text=_longer(
                "the same graph with steps that hand out constants (what Triton and this machine take)",
                "takes",
                "than one of them alone",
                floor,
            ),
            value=value_of(floor),
            unit="ms",
            no_effect=0,
        ),
        Finding(
            text=_longer(
                "with the work of gate, five members and vote on this machine's cores it",
                "takes",
                "than without",
                added,
            ),
            value=value_of(added),
            unit="ms",
            no_effect=0,
        ),
    ]


SCENARIO = Scenario(
    "overhead",
    "Overhead over the slowest member",
    "How much longer does an ensemble of five take than its slowest member alone, through the same server? "
    "Once with members that answer at once from a table, so that all want a core at the same time, and once "
    "with members that think for a while, as LLMs do.",
    _play,
)
