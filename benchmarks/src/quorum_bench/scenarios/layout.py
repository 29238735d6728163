# SPDX-License-Identifier: Apache-2.0
"""Measure what equal code addresses in all steps save (``server.aslr: false``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from quorum_bench.bench import Bench, Measured, Scenario, Skipped, value_of
from quorum_bench.bootstrap import paired_ratio
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import NotAsAsked, QuorumTarget
from quorum_bench.workload import Workload

MEMBERS: Mapping[str, Mapping[str, object]] = {f"m{i}": {} for i in range(5)}
_LONE, _BUSY = 1, 32
_RANDOM, _SAME = "random", "the same"
_WORKLOAD = Workload.made(attributes=5)


def _play(bench: Bench) -> ScenarioResult:
    tally = bench.tally(SCENARIO.name)
    try:
        for number in range(tally.effort.runs):
            # New servers each time, for new random addresses.
            with _server(aslr=True) as random, _server(aslr=False) as same:
                for load in (_LONE, _BUSY):
                    points = [_point(random, _RANDOM, load), _point(same, _SAME, load)]
                    first = (number + (load == _BUSY)) % 2
                    for point in (points[first], points[1 - first]):
                        tally.run(point, number)
    except NotAsAsked as error:
        raise Skipped(str(error)) from error
    measured = tally.measured()
    plot = Plot(title="CPU of an answer", x="addresses", y=["cpu"], series="load")
    return SCENARIO.result(measured, findings=_findings(measured), plots=[plot])


def _server(*, aslr: bool) -> QuorumTarget:
    return QuorumTarget(_WORKLOAD, MEMBERS, aslr=aslr)


def _point(target: QuorumTarget, addresses: str, load: int) -> Point:
    return Point(target, target.caller(_WORKLOAD), Closed(load), {"addresses": addresses, "load": load})


def _findings(measured: Sequence[Measured]) -> list[Finding]:
    by_labels = {(m.labels["addresses"], m.labels["load"]): m for m in measured}

    def ratio(what: str, load: int, of: Callable[[Measured], Sequence[float]]) -> Finding:
        pairs = paired_ratio(of(by_labels[_SAME, load]), of(by_labels[_RANDOM, load]))
        text = f"{what} with the same addresses, as a multiple of that with random ones, median over pairs"
        return Finding(text=text, value=value_of(pairs), no_effect=1)

    return [
        ratio(f"CPU of an answer at {_BUSY} callers", _BUSY, lambda m: m.cpu_ms),
        ratio(f"answers per second at {_BUSY} callers", _BUSY, lambda m: m.throughputs),
        ratio("latency p50 of a lone request", _LONE, lambda m: m.p50s_ms),
    ]


SCENARIO = Scenario(
    "layout",
    "Steps with their code at the same addresses",
    "What does an answer of five members that answer at once cost when the kernel gives all steps of a "
    "server the same memory layout (`server.aslr: false`), compared with the default, random addresses for "
    "each? A pair of new servers for every run; few runs show little, because the difference is smaller than "
    "a machine's changes from minute to minute.",
    _play,
)
