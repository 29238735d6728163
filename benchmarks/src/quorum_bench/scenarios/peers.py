# SPDX-License-Identifier: Apache-2.0
"""Compare quorum with other servers: the same members and the same vote, in one run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quorum.deployment import load_deployment
from quorum.evaluation.stats import quantile
from quorum_bench.bench import Bench, Measured, Scenario, Skipped, value_of
from quorum_bench.bootstrap import ratio_of_medians
from quorum_bench.load import Closed, LoadError, Open, run_load
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult, Table
from quorum_bench.scenarios.peers_llms import (
    LLM_LOADS,
    absent_rows,
    all_cpu,
    as_text,
    lazy_findings,
    lazy_makers,
    llms_table,
)
from quorum_bench.targets.fanout import FanoutTarget
from quorum_bench.targets.fastapi import FastApiTarget
from quorum_bench.targets.lazy import LazyTarget, compared
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
"""Requests a second during a redeploy: far below the limit of every peer."""
_OTHER_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0)
_PEERS: tuple[type[PeerTarget], ...] = (FastApiTarget, LitServeTarget, RayTarget)
_QUORUM = "quorum"
_FANOUT = "client fan-out"
_DEPLOY, _LISTINGS = Path("deploy.yaml"), Path("examples/demo/listings.jsonl")

Server = QuorumTarget | PeerTarget


@dataclass(frozen=True, slots=True)
class Kind:
    """Members that are compared with each other.

    Attributes:
        name: Their thinking time, or LLMs.
        workload: The requests.
        loads: Callers at once.
        think_ms: Thinking time of members that are no LLMs.
        deploy: Deployment of the LLMs.
        listings: JSONL with gold, of which those that are not in the workload teach the LLMs' weights.
    """

    name: str
    workload: Workload
    loads: Sequence[int]
    think_ms: float = 0.0
    deploy: Path | None = None
    listings: Path | None = None

    def makers(self) -> dict[str, Callable[[], Server]]:
        """Server -> its constructor."""
        options = {"latency_ms": self.think_ms, "latency_shape": "constant"} if self.think_ms else {}
        members = dict.fromkeys(MEMBERS, options)
        made: dict[str, Callable[[], Server]] = {
            _QUORUM: partial(QuorumTarget, self.workload, members, deploy=self.deploy),
            _FANOUT: partial(FanoutTarget, self.workload, members, deploy=self.deploy, name=_FANOUT),
        }
        made |= {
            peer.name: partial(peer, self.workload, MEMBERS, self.think_ms, self.deploy) for peer in _PEERS
        }
        if self.deploy and self.listings:
            made |= lazy_makers(self.workload, self.deploy, self.listings)
        return made


@dataclass(slots=True)
class Turns:
    """Results of the servers that took turns.

    Attributes:
        measured: Points of every server under every load.
        cold_start_s: Server -> seconds from its start to its first answer, one a turn.
        absent: Server -> why it did not start.
        redeploys: Rows of the table of redeploys.
        compared: Server that asks members in rows -> its answers compared with those of all members.
        is_of_llms: Whether the members were LLMs.
    """

    measured: list[Measured] = field(default_factory=list)
    cold_start_s: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    redeploys: list[list[str]] = field(default_factory=list)
    compared: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_of_llms: bool = False


def _play(bench: Bench) -> ScenarioResult:
    try:
        peers_python()
    except PeerError as error:
        raise Skipped(str(error)) from error
    workload = Workload.made(attributes=5)
    options = bench.options
    quick = Kind("none", workload, options.pick((1, _BUSY), (1, 4, 8, 16, _BUSY, 64)))
    free = _take_turns(bench, quick, redeploy=True)
    if set(free.cold_start_s) <= {_QUORUM, _FANOUT}:
        raise Skipped(f"no peer answers: {'; '.join(free.absent.values())}")
    others = [_take_turns(bench, kind) for kind in _slower(bench, workload)]
    points = [m for turns in (free, *others) for m in turns.measured]
    llms = [turns for turns in others if turns.is_of_llms]
    tables = [_summary(bench, free, points), _redeploys(free)]
    tables += [llms_table(turns.measured, turns.cold_start_s, turns.compared, turns.absent) for turns in llms]
    findings = _findings(free.measured) + [f for turns in llms for f in lazy_findings(turns.measured)]
    plots = [
        Plot(title="throughput", x="server", y=["throughput"], series="load"),
        Plot(title="latency p50", x="server", y=["latency_p50"], series="load"),
        Plot(title="memory, shared pages split", x="server", y=["pss"], series="load"),
    ]
    shown = [plot.model_copy(update={"only": {"thinking": quick.name}}) for plot in plots]
    return SCENARIO.result(points, findings=findings, tables=tables, plots=shown)


def _slower(bench: Bench, workload: Workload) -> list[Kind]:
    """Return slower members: in the long form those that think and LLMs, in the short one LLMs if given."""
    options, kinds = bench.options, list[Kind]()
    if options.form == "long":
        kinds.append(Kind(f"{_THINK_MS:g} ms", workload, (1, _BUSY), _THINK_MS))
    elif options.deploy is None:
        return kinds
    deploy, listings = options.deploy or _DEPLOY, options.listings or _LISTINGS
    if deploy.is_file() and listings.is_file():
        names = list(load_deployment(deploy).attributes)[:5]
        loads = options.pick(LLM_LOADS[1:], LLM_LOADS)
        kinds.append(
            Kind("LLMs", Workload.of_listings(listings, names), loads, deploy=deploy, listings=listings)
        )
    return kinds


def _take_turns(bench: Bench, kind: Kind, redeploy: bool = False) -> Turns:
    """Start one server, measure it, stop it; then the next: each has the machine to itself."""
    turns, tally = Turns(is_of_llms=kind.deploy is not None), bench.tally(SCENARIO.name)
    makers = kind.makers()
    for number in range(tally.effort.runs):
        # There and back again, so that a machine that slows down hits all alike.
        for name in list(makers) if number % 2 == 0 else list(makers)[::-1]:
            if name in turns.absent:
                continue
            server = makers[name]()
            try:
                start = time.monotonic()
                server.start()
                turns.cold_start_s.setdefault(name, []).append(time.monotonic() - start)
                for point in _points(bench, name, server, kind):
                    tally.run(point, number)
                if isinstance(server, LazyTarget) and number == 0:
                    turns.compared[name] = compared(server, kind.workload)
                if redeploy and number == 0:
                    turns.redeploys.append(_redeployed(bench, name, server, kind.workload))
            except (PeerError, LoadError) as error:
                when = f"after {number} turns: " if number else ""
                turns.absent[name] = f"{when}{error}"
                bench.say(f"{SCENARIO.name}: {name} is left out {turns.absent[name]}")
            finally:
                server.stop()
    turns.measured = tally.measured()
    return turns


def _points(bench: Bench, name: str, server: Server, kind: Kind) -> list[Point]:
    return [
        Point(
            server,
            server.caller(kind.workload),
            Closed(callers),
            {"server": name, "thinking": kind.name, "load": callers},
            slo_ms=bench.options.slo_ms,
            # The client's own work is part of the fan-out: it may use both cores, as a server may.
            generators=2 if name == _FANOUT and callers > 1 else 1,
        )
        for callers in kind.loads
    ]


def _findings(free: Sequence[Measured]) -> list[Finding]:
    busy = {str(m.labels["server"]): m for m in free if m.labels["load"] == _BUSY}
    ours = busy.pop(_QUORUM)
    fastest = max(busy.values(), key=lambda m: m.throughput)
    leanest = min(busy.values(), key=lambda m: float(np.median(all_cpu(m))))
    faster = ratio_of_medians(ours.throughputs, fastest.throughputs)
    cheaper = ratio_of_medians(all_cpu(leanest), all_cpu(ours))
    return [
        Finding(
            text=f"answers per second at {_BUSY} callers, as a multiple of the best peer's "
            f"({fastest.labels['server']})",
            value=value_of(faster),
            no_effect=1,
            aim=f"at least {_AIM:g}",
            met=faster.value >= _AIM,
        ),
        Finding(
            text="CPU per answer of the leanest peer, its client included "
            f"({leanest.labels['server']}), as a multiple of quorum's",
            value=value_of(cheaper),
            no_effect=1,
            aim="above 1",
            met=cheaper.value > 1.0,
        ),
    ]


def _summary(bench: Bench, free: Turns, points: Sequence[Measured]) -> Table:
    rows = []
    slow_name = f"{_THINK_MS:g} ms"
    for name, starts in free.cold_start_s.items():
        mine = [m for m in free.measured if m.labels["server"] == name]
        if not any(m.labels["load"] == _BUSY for m in mine):
            continue
        lone, busy = mine[0], next(m for m in mine if m.labels["load"] == _BUSY)
        kept = [m.throughput for m in mine if _p99(m) <= bench.options.slo_ms]
        slow = [m for m in points if (m.labels["server"], m.labels["thinking"]) == (name, slow_name)]
        rows.append(
            [
                name,
                as_text(lone.p50_ms),
                as_text(slow[0].p50_ms - _THINK_MS) if slow else "–",
                as_text(busy.throughput),
                as_text(max(kept)) if kept else "none",
                as_text(slow[1].throughput) if slow else "–",
                as_text(float(np.median(busy.cpu_ms))),
                as_text(float(np.median(all_cpu(busy)))),
                as_text(busy.median(lambda run: run.pss_bytes / 2**20)),
                as_text(float(np.median(starts))),
            ]
        )
    rows += absent_rows(free.absent, 9)
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


def _redeploys(turns: Turns) -> Table:
    return Table(
        title=f"New weights under {_REDEPLOY_RATE} requests a second",
        columns=["server", "how", "takes, s", "requests", "failed", "longest time without an answer, ms"],
        rows=turns.redeploys,
    )


def _redeployed(bench: Bench, name: str, server: Server, workload: Workload) -> list[str]:
    if name == _FANOUT:
        return [name, "every client is given new weights", "–", "–", "–", "–"]
    how = "publish and promote" if isinstance(server, QuorumTarget) else server.redeploying
    row = [name, how, *_redeploy(server, workload, bench.options.pick(5.0, 12.0))]
    bench.say(f"{SCENARIO.name}/redeploy {row}")
    return row


def _redeploy(server: Server, workload: Workload, seconds: float) -> list[str]:
    arrivals = np.arange(0, int(seconds * 1e9), int(1e9 / _REDEPLOY_RATE), dtype=np.int64)
    took: list[float] = []
    failure: list[BaseException] = []

    def change() -> None:
        start = time.monotonic()
        try:
            server.new_weights(_OTHER_WEIGHTS)
        except Exception as error:
            failure.append(error)
        took.append(time.monotonic() - start)

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
    return [as_text(took[0]), str(len(samples)), str(failed), as_text(gap_ms)]


def _p99(measured: Measured) -> float:
    return measured.median(lambda run: quantile(run.samples.latency_ms, 0.99))


SCENARIO = Scenario(
    "peers",
    "Other ways to serve the same ensemble",
    "Five members and their vote as a Triton graph, by a client that asks all members itself, and on "
    "FastAPI, LitServe and Ray Serve, each as its documentation says and with every member in a process of "
    "its own. Members build the prompt, answer from a table at once or after a fixed time, or are LLMs, and "
    "parse and normalise; LLMs are also asked in rows, by the channel quorum_lazy. Only quorum checks the "
    "request, sets deadlines and limits admission. "
    "Each has the machine to itself while it is measured, turn by turn.",
    _play,
)
