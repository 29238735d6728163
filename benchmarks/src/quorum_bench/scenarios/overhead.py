# SPDX-License-Identifier: Apache-2.0
"""How much longer the ensemble takes than its slowest member."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, islice

from quorum_bench.bench import Bench, Measured, Scenario, value_of
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.metrics.overhead import overhead
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.floor import FloorTarget
from quorum_bench.targets.quorum import NotAsAsked, QuorumTarget
from quorum_bench.workload import Workload

MEMBERS = 5
_AIM_MS = 1.0
_THINK_MS = (10, 12, 14, 16, 18)
_NONE, _SHARED, _THINKING, _EMPTY = "none", "none, aslr: false", "10 to 18 ms", "nothing is done"
_SAID = {
    _NONE: "that answer at once, all at the same moment,",
    _SHARED: "that do so on a server with `aslr: false`",
    _THINKING: f"that think {_THINK_MS[0]} to {_THINK_MS[-1]} ms",
}
_WORKLOAD = Workload.made(attributes=5)


def _play(bench: Bench) -> ScenarioResult:
    points: dict[str, list[Point]] = {}
    with ExitStack() as servers:
        for name, target in _targets().items():
            try:
                points[name] = _points(servers.enter_context(target), name)
            except NotAsAsked as error:
                bench.say(f"{SCENARIO.name}: left out: {error}")
        runs = iter(bench.measure(SCENARIO.name, list(chain(*points.values()))))
    measured = {name: list(islice(runs, len(some))) for name, some in points.items()}
    findings = [
        f for name, what in _SAID.items() if name in measured for f in _findings(measured[name], what)
    ]
    findings += _of_triton(measured[_NONE], measured[_EMPTY])
    plot = Plot(title="asked one request at a time", x="asked", y=["latency_p50"], series="thinking")
    return SCENARIO.result(list(chain(*measured.values())), findings=findings, plots=[plot])


def _targets() -> dict[str, QuorumTarget]:
    at_once: dict[str, dict[str, object]] = {f"m{i}": {} for i in range(MEMBERS)}
    thinking = {f"m{i}": {"latency_ms": ms, "latency_shape": "constant"} for i, ms in enumerate(_THINK_MS)}
    return {
        _NONE: QuorumTarget(_WORKLOAD, at_once),
        _SHARED: QuorumTarget(_WORKLOAD, at_once, aslr=False),
        _THINKING: QuorumTarget(_WORKLOAD, thinking),
        _EMPTY: FloorTarget(_WORKLOAD, at_once),
    }


def _points(target: QuorumTarget, thinking: str) -> list[Point]:
    """The ensemble, then members alone: all that can be the slowest."""
    # Of those that think, only the last can: they differ by far more than the graph costs.
    members = {_THINKING: list(target.members)[-1:], _EMPTY: list(target.members)[:1]}
    callers = {"ensemble": target.caller(_WORKLOAD)}
    callers |= {name: target.member_caller(_WORKLOAD, name) for name in members.get(thinking, target.members)}
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
            text=f"five members {what} take longer at p50 than the slowest alone ({slowest}) by",
            value=value_of(p50),
            unit="ms",
            aim=f"under {_AIM_MS:g} ms",
            met=p50.value < _AIM_MS,
        ),
        Finding(text="and at p99 by", value=value_of(p99), unit="ms"),
    ]


def _of_triton(quick: Sequence[Measured], empty: Sequence[Measured]) -> list[Finding]:
    """What is Triton's own, and what this product's code adds to it."""
    ensemble, member = empty
    floor, _ = overhead(ensemble.latencies, {"m0": member.latencies}, 0.5)
    added, _ = overhead(quick[0].latencies, {"floor": ensemble.latencies}, 0.5)
    return [
        Finding(
            text="the same graph with steps that hand out constants takes longer than one of them alone by "
            "(what Triton and this machine take)",
            value=value_of(floor),
            unit="ms",
        ),
        Finding(
            text="and the work of gate, five members and vote on this machine's cores adds",
            value=value_of(added),
            unit="ms",
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
