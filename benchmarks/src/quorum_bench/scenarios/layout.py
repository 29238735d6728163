# SPDX-License-Identifier: Apache-2.0
"""What it saves when all steps have their code at the same addresses (``server.aslr: false``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from quorum_bench.bench import Bench, Measured, Scenario, Skipped, value_of
from quorum_bench.bootstrap import paired_ratio
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import NotAsAsked, QuorumTarget
from quorum_bench.workload import Workload

MEMBERS = 5
_LONE, _BUSY = 1, 32
_RANDOM, _SAME = "random", "the same"
_WORKLOAD = Workload.made(attributes=5)
# The difference is small beside what a machine does from minute to minute, so many short turns are taken.
_TIMES_THE_RUNS = 4


def _play(bench: Bench) -> ScenarioResult:
    members: dict[str, dict[str, object]] = {f"m{i}": {} for i in range(MEMBERS)}
    with QuorumTarget(_WORKLOAD, members) as random, QuorumTarget(_WORKLOAD, members, aslr=False) as same:
        points = [
            Point(target, target.caller(_WORKLOAD), Closed(load), {"addresses": name, "load": load})
            for load in (_LONE, _BUSY)
            for name, target in ((_RANDOM, random), (_SAME, same))
        ]
        effort = replace(bench.options.effort, runs=_TIMES_THE_RUNS * bench.options.effort.runs)
        measured = bench.measure(SCENARIO.name, points, effort)
    plot = Plot(title="CPU of an answer", x="addresses", y=["cpu"], series="load")
    return SCENARIO.result(measured, findings=_findings(measured), plots=[plot])


def _or_skip(bench: Bench) -> ScenarioResult:
    try:
        return _play(bench)
    except NotAsAsked as error:
        raise Skipped(str(error)) from error


def _findings(measured: Sequence[Measured]) -> list[Finding]:
    lone = [m for m in measured if m.labels["load"] == _LONE]
    busy = [m for m in measured if m.labels["load"] == _BUSY]
    return [
        _ratio(f"CPU of an answer at {_BUSY} callers", busy, lambda m: m.cpu_ms),
        _ratio(f"answers per second at {_BUSY} callers", busy, _throughputs),
        _ratio("latency p50 of a lone request", lone, _medians),
    ]


def _ratio(what: str, pair: Sequence[Measured], of: Callable[[Measured], Sequence[float]]) -> Finding:
    random, same = pair
    return Finding(
        text=f"{what} with the same addresses, as a multiple of that with random ones, turn by turn",
        value=value_of(paired_ratio(of(same), of(random))),
    )


def _throughputs(measured: Measured) -> list[float]:
    return [run.answered / run.seconds for run in measured.runs]


def _medians(measured: Measured) -> list[float]:
    return [float(np.median(latencies)) for latencies in measured.latencies]


SCENARIO = Scenario(
    "layout",
    "Steps with their code at the same addresses",
    "What does an answer of five members that answer at once cost when the kernel gives all steps of a "
    "server the same memory layout (`server.aslr: false`), beside the default, random addresses for each? "
    "Measured in four times the runs.",
    _or_skip,
)
