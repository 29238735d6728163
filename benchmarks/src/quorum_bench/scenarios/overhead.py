# SPDX-License-Identifier: Apache-2.0
"""How much longer the ensemble takes than its slowest member."""

from __future__ import annotations

from collections.abc import Sequence

from quorum_bench.bench import Bench, Measured, Scenario, value_of
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.metrics.overhead import overhead
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

MEMBERS = 5
_AIM_MS = 1.0
_THINK_MS = (10, 12, 14, 16, 18)


def _play(bench: Bench) -> ScenarioResult:
    at_once = _measure(bench, "none", [0] * MEMBERS)
    thinking = _measure(bench, "10 to 18 ms", _THINK_MS)
    findings = [
        *_findings(at_once, "that answer at once, all at the same moment,"),
        *_findings(thinking, f"that think {_THINK_MS[0]} to {_THINK_MS[-1]} ms"),
    ]
    plot = Plot(title="asked one request at a time", x="asked", y=["latency_p50"], series="thinking")
    return SCENARIO.result([*at_once, *thinking], findings=findings, plots=[plot])


def _measure(bench: Bench, thinking: str, think_ms: Sequence[float]) -> list[Measured]:
    """The ensemble, then each of its members alone."""
    workload = Workload.made(attributes=5)
    members = {
        f"m{i}": {"latency_ms": ms, "latency_shape": "constant"} if ms else {}
        for i, ms in enumerate(think_ms)
    }
    with QuorumTarget(workload, members) as target:
        callers = {"ensemble": target.caller(workload)}
        # Of members that differ by far more than the graph costs, only the last can be the slowest.
        asked = list(members) if len(set(think_ms)) == 1 else list(members)[-1:]
        callers |= {name: target.member_caller(workload, name) for name in asked}
        points = [
            Point(target, caller, Closed(1), {"asked": name, "thinking": thinking})
            for name, caller in callers.items()
        ]
        return bench.measure(SCENARIO.name, points)


def _findings(measured: Sequence[Measured], what: str) -> list[Finding]:
    ensemble, *alone = measured
    members = {str(m.labels["asked"]): m.latencies for m in alone}
    p50, slowest = overhead(ensemble.latencies, members, 0.5)
    p99, _ = overhead(ensemble.latencies, members, 0.99)
    return [
        Finding(
            text=f"five members {what} take longer at p50 than the slowest alone ({slowest}) by",
            value=value_of(p50),
            unit="ms",
            aim=f"under {_AIM_MS:g} ms",
            met=p50.value < _AIM_MS,
        ),
        Finding(text="and at p99 by", value=value_of(p99), unit="ms"),
    ]


SCENARIO = Scenario(
    "overhead",
    "Overhead over the slowest member",
    "How much longer does an ensemble of five take than its slowest member alone, through the same server? "
    "Once with members that answer at once from a table, so that all want a core at the same time, and once "
    "with members that think for a while, as LLMs do.",
    _play,
)
