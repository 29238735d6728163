# SPDX-License-Identifier: Apache-2.0
"""The same members and the same vote on other servers, side by side in one run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quorum_bench.bench import Bench, Measured, Scenario, Skipped, value_of
from quorum_bench.bootstrap import Interval, median_draws
from quorum_bench.load import Closed, Open, run_load
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult, Table
from quorum_bench.targets.fanout import FanoutTarget
from quorum_bench.targets.fastapi import FastApiTarget
from quorum_bench.targets.litserve import LitServeTarget
from quorum_bench.targets.peer import PeerError, PeerTarget, peers_python
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.targets.ray import RayTarget
from quorum_bench.workload import Workload

MEMBERS = tuple(f"m{i}" for i in range(5))
_THINK_MS = 20.0
_BUSY = 32
_AIM = 1.5
_REDEPLOY_RATE = 50
"""Requests a second during a redeploy: what every peer carries with ease."""
_OTHER_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0)
_PEERS: tuple[type[PeerTarget], ...] = (FastApiTarget, LitServeTarget, RayTarget)

Server = QuorumTarget | PeerTarget


@dataclass(slots=True)
class Started:
    """The servers that answer, how long each took, and why others do not."""

    servers: dict[str, Server] = field(default_factory=dict)
    cold_start_s: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def _play(bench: Bench) -> ScenarioResult:
    try:
        peers_python()
    except PeerError as error:
        raise Skipped(str(error)) from error
    workload = Workload.made(attributes=5)
    with contextlib.ExitStack() as stack:
        started = _start(bench, stack, workload, 0.0)
        loads = bench.options.pick((1, _BUSY), (1, 4, 8, 16, _BUSY, 64))
        free = bench.measure(SCENARIO.name, _points(bench, started, workload, "none", loads))
        redeploys = _redeploys(bench, started, workload)
    thinking: list[Measured] = []
    if bench.options.form == "long":
        with contextlib.ExitStack() as stack:
            slow = _start(bench, stack, workload, _THINK_MS)
            points = _points(bench, slow, workload, f"{_THINK_MS:g} ms", (1, _BUSY))
            thinking = bench.measure(SCENARIO.name, points)
    tables = [_summary(bench, started, free, thinking), redeploys]
    plots = [
        Plot(title="throughput, members that think for no time", x="server", y=["throughput"], series="load"),
        Plot(title="latency p50", x="server", y=["latency_p50"], series="load"),
        Plot(title="memory, shared pages split", x="server", y=["pss"], series="load"),
    ]
    return SCENARIO.result([*free, *thinking], findings=_findings(free), tables=tables, plots=plots)


def _start(bench: Bench, stack: contextlib.ExitStack, workload: Workload, think_ms: float) -> Started:
    started = Started()
    options: dict[str, Any] = {"latency_ms": think_ms, "latency_shape": "constant"} if think_ms else {}
    members = dict.fromkeys(MEMBERS, options)
    made: list[tuple[str, Any]] = [
        ("quorum", lambda: QuorumTarget(workload, members)),
        ("client fan-out", lambda: FanoutTarget(workload, members, name="client fan-out")),
        *((peer.name, lambda peer=peer: peer(workload, MEMBERS, think_ms)) for peer in _PEERS),
    ]
    for name, make in made:
        server: Server = make()
        stack.callback(server.stop)
        begun = time.monotonic()
        try:
            server.start()
        except PeerError as error:
            started.absent[name] = str(error)
            bench.say(f"{SCENARIO.name}: {name} is left out: {error}")
            server.stop()
            continue
        started.cold_start_s[name] = time.monotonic() - begun
        started.servers[name] = server
    if len(started.servers) == 2:
        raise Skipped(f"no peer answers: {'; '.join(started.absent.values())}")
    return started


def _points(
    bench: Bench, started: Started, workload: Workload, thinking: str, loads: Sequence[int]
) -> list[Point]:
    return [
        Point(
            server,
            server.caller(workload),
            Closed(callers),
            {"server": name, "thinking": thinking, "load": callers},
            slo_ms=bench.options.slo_ms,
            # The client's own work is part of the fan-out: it may use both cores, as a server may.
            generators=2 if isinstance(server, FanoutTarget) and callers > 1 else 1,
        )
        for name, server in started.servers.items()
        for callers in loads
    ]


def _findings(free: Sequence[Measured]) -> list[Finding]:
    busy = {str(m.labels["server"]): m for m in free if m.labels["load"] == _BUSY}
    ours = busy.pop("quorum")
    fastest = max(busy.values(), key=lambda m: m.throughput)
    leanest = min(busy.values(), key=lambda m: float(np.median(_all_cpu(m))))
    faster = _ratio(_throughputs(ours), _throughputs(fastest))
    cheaper = _ratio(_all_cpu(leanest), _all_cpu(ours))
    return [
        Finding(
            text=f"answers per second at {_BUSY} callers, as a multiple of the best peer's "
            f"({fastest.labels['server']})",
            value=value_of(faster),
            aim=f"at least {_AIM:g}",
            met=faster.value >= _AIM,
        ),
        Finding(
            text="CPU per answer of the leanest peer, its client included "
            f"({leanest.labels['server']}), as a multiple of quorum's",
            value=value_of(cheaper),
            aim="above 1",
            met=cheaper.value > 1.0,
        ),
    ]


def _summary(bench: Bench, started: Started, free: Sequence[Measured], thinking: Sequence[Measured]) -> Table:
    rows = []
    for name in started.servers:
        mine = [m for m in free if m.labels["server"] == name]
        lone, busy = mine[0], next(m for m in mine if m.labels["load"] == _BUSY)
        kept = [m.throughput for m in mine if _p99(m) <= bench.options.slo_ms]
        slow = [m for m in thinking if m.labels["server"] == name]
        rows.append(
            [
                name,
                _number(lone.p50_ms),
                _number(slow[0].p50_ms - _THINK_MS) if slow else "–",
                _number(busy.throughput),
                _number(max(kept)) if kept else "none",
                _number(slow[1].throughput) if slow else "–",
                _number(float(np.median(busy.cpu_ms))),
                _number(float(np.median(_all_cpu(busy)))),
                _number(busy.median(lambda run: run.pss_bytes / 2**20)),
                _number(started.cold_start_s[name]),
            ]
        )
    blanks = ["–"] * 9
    rows += [[f"{name}: {why.splitlines()[0]}", *blanks] for name, why in started.absent.items()]
    return Table(
        title=f"{len(MEMBERS)} members, 5 attributes a request",
        columns=[
            "server",
            "overhead at 1 caller, p50, ms",
            f"the same with members that think {_THINK_MS:g} ms",
            f"answers/s at {_BUSY} callers",
            f"most answers/s with p99 within {bench.options.slo_ms:g} ms",
            f"answers/s at {_BUSY} callers, members think {_THINK_MS:g} ms",
            "CPU s per 1 000 answers, server",
            "server and client",
            "memory (PSS), MiB",
            "cold start, s",
        ],
        rows=rows,
    )


def _redeploys(bench: Bench, started: Started, workload: Workload) -> Table:
    """New weights under load, one server after the other."""
    rows = []
    seconds = bench.options.pick(5.0, 12.0)
    for name, server in started.servers.items():
        if isinstance(server, FanoutTarget):
            rows.append([name, "every client is given new weights", "–", "–", "–", "–"])
            continue
        how = "publish and promote" if isinstance(server, QuorumTarget) else server.redeploying
        rows.append([name, how, *_redeploy(server, workload, seconds)])
        bench.say(f"{SCENARIO.name}/redeploy {name}: {rows[-1]}")
    return Table(
        title=f"New weights under {_REDEPLOY_RATE} requests a second",
        columns=["server", "how", "takes, s", "requests", "failed", "longest time without an answer, ms"],
        rows=rows,
    )


def _redeploy(server: Server, workload: Workload, seconds: float) -> list[str]:
    arrivals = np.arange(0, int(seconds * 1e9), int(1e9 / _REDEPLOY_RATE), dtype=np.int64)
    took: list[float] = []
    failure: list[BaseException] = []

    def change() -> None:
        begun = time.monotonic()
        try:
            server.new_weights(_OTHER_WEIGHTS)
        except Exception as error:
            failure.append(error)
        took.append(time.monotonic() - begun)

    timer = threading.Timer(1.0 + seconds / 4, change)
    timer.start()
    try:
        load = Open(arrivals, _REDEPLOY_RATE)
        samples = run_load(server.caller(workload), load, seconds).samples
    finally:
        timer.join()
    if failure:
        raise failure[0]
    answered = np.sort(samples.where(samples.ok).done_ns)
    gap_ms = float(np.diff(answered).max()) / 1e6 if len(answered) > 1 else seconds * 1e3
    failed = int((~samples.ok).sum())
    return [_number(took[0]), str(len(samples)), str(failed), _number(gap_ms)]


def _ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    draws = median_draws(above, 1) / median_draws(below, 2)
    return Interval.of(float(np.median(above) / np.median(below)), draws)


def _throughputs(measured: Measured) -> list[float]:
    return [run.answered / run.seconds for run in measured.runs]


def _all_cpu(measured: Measured) -> list[float]:
    """Per run, CPU milliseconds of servers and generators per answer."""
    own = zip(measured.cpu_ms, measured.runs, strict=True)
    return [cpu + run.generators_cpu * run.seconds / run.answered * 1e3 for cpu, run in own]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _p99(measured: Measured) -> float:
    return measured.median(lambda run: float(np.quantile(run.samples.latency_ms, 0.99)))


SCENARIO = Scenario(
    "peers",
    "Beside other ways to serve the same ensemble",
    "Five members and their vote as a Triton graph, by a client that asks all members itself, and on "
    "FastAPI, LitServe and Ray Serve, each as its documentation says and with every member in a process of "
    "its own. Members build the prompt, answer from a table at once or after a fixed time, parse and "
    "normalise; nobody but quorum checks the request, sets deadlines and limits who is admitted.",
    _play,
)
