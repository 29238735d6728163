# SPDX-License-Identifier: Apache-2.0
"""How much longer the ensemble takes than its slowest member."""

from __future__ import annotations

from quorum_bench.bench import Bench, Scenario, value_of
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.metrics.overhead import overhead
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

MEMBERS = 5
_AIM_MS = 1.0


def _play(bench: Bench) -> ScenarioResult:
    workload = Workload.made(attributes=5)
    names = [f"m{i}" for i in range(MEMBERS)]
    with QuorumTarget(workload, {name: {} for name in names}) as target:
        points = [Point(target, target.caller(workload), Closed(1), {"asked": "ensemble"})]
        points += [
            Point(target, target.member_caller(workload, name), Closed(1), {"asked": name}) for name in names
        ]
        ensemble, *alone = bench.measure(SCENARIO.name, points)
    members = {str(m.labels["asked"]): m.latencies for m in alone}
    p50, slowest = overhead(ensemble.latencies, members, 0.5)
    p99, _ = overhead(ensemble.latencies, members, 0.99)
    findings = [
        Finding(
            text=f"five together take longer at p50 than the slowest alone ({slowest}) by",
            value=value_of(p50),
            unit="ms",
            aim=f"under {_AIM_MS:g} ms",
            met=p50.value < _AIM_MS,
        ),
        Finding(text="and at p99 by", value=value_of(p99), unit="ms"),
    ]
    plot = Plot(title="asked one request at a time", x="asked", y=["latency_p50"])
    return SCENARIO.result([ensemble, *alone], findings=findings, plots=[plot])


SCENARIO = Scenario(
    "overhead",
    "Overhead over the slowest member",
    "How much longer does an ensemble of five take than its slowest member alone, through the same server? "
    "Members that answer at once from a table, so that only the graph costs anything.",
    _play,
)
