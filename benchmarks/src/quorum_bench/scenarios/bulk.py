# SPDX-License-Identifier: Apache-2.0
"""Measure a bulk run next to people who wait: what each costs the other, by the room that bulk is given."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quorum.deployment import load_deployment
from quorum_bench.arrivals import poisson
from quorum_bench.bench import Bench, Scenario, Skipped, point_id, value_of
from quorum_bench.bootstrap import interval_of, median_draws
from quorum_bench.load import Closed, LoadError, Open, run_load
from quorum_bench.results import Plot, PointResult, ScenarioResult
from quorum_bench.scenarios.overload import figures_of
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_client import AsyncClient, Item

_CALLERS = 64
_SHARE = 0.25
_SATURATING = 32
_DEPLOY, _LISTINGS = Path("deploy.yaml"), Path("examples/demo/listings.jsonl")


class BulkRun:
    """A run that wants far more than the server can do, in a thread, until the end of the block.

    Attributes:
        done_ns: When each answer arrived.
    """

    def __init__(self, url: str, workload: Workload) -> None:
        self.done_ns: list[int] = []
        self._url, self._workload = url, workload
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._ask_all, name="bulk-run")

    def answers_per_s(self, start_ns: int, stop_ns: int) -> float:
        """Answers that arrived in ``[start_ns, stop_ns)``, per second."""
        inside = [at for at in self.done_ns if start_ns <= at < stop_ns]
        return len(inside) / (stop_ns - start_ns) * 1e9

    def __enter__(self) -> BulkRun:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise LoadError(f"the bulk run ended early: {self._failure!r}") from self._failure

    def _ask_all(self) -> None:
        try:
            asyncio.run(self._run())
        # Also what no caller expects: a run that has ended would look like one that is slow.
        except BaseException as error:
            self._failure = error

    def _items(self) -> Iterator[Item]:
        for product in itertools.cycle(self._workload.products):
            if self._ended.is_set():
                return
            yield Item(product.text, product.attributes, product.category)

    async def _run(self) -> None:
        async with AsyncClient(self._url, timeout_s=120.0) as client:
            async for _ in client.extract_many(self._items(), concurrency=_CALLERS, away_s=0):
                self.done_ns.append(time.monotonic_ns())


def _play(bench: Bench) -> ScenarioResult:
    deploy, listings = bench.options.deploy or _DEPLOY, bench.options.listings or _LISTINGS
    if not (deploy.is_file() and listings.is_file()):
        raise Skipped(f"no {deploy} with {listings} here: name others by --deploy and --listings")
    workload = Workload.of_listings(listings, list(load_deployment(deploy).attributes))
    rooms = bench.options.pick((8, 32), (2, 4, 8, 16, 32, 64))
    points = [
        point
        for room in rooms
        for point in _room(
            bench, QuorumTarget(workload, deploy=deploy, gate={"max_bulk_in_flight": room}), workload, room
        )
    ]
    return SCENARIO.result([], plots=_PLOTS).model_copy(update={"points": points})


def _room(bench: Bench, served: QuorumTarget, workload: Workload, room: int) -> list[PointResult]:
    seconds, rows = bench.options.pick(6.0, 15.0), dict[str, list[dict[str, float]]]()
    with served as target:
        caller = target.caller(workload)
        full = run_load(caller, Closed(_SATURATING), seconds)
        rate = _SHARE * full.samples.answered_between(full.start_ns, full.stop_ns) / seconds
        for number in range(bench.options.effort.runs):
            people = Open(poisson(rate, seconds, number), rate)
            alone = figures_of(run_load(caller, people, seconds), seconds)
            with BulkRun(target.url, workload) as run:
                # Until the run is in its stride.
                time.sleep(seconds / 4)
                start = time.monotonic_ns()
                time.sleep(seconds)
                bulk = run.answers_per_s(start, time.monotonic_ns())
                generated = run_load(caller, people, seconds)
                both = figures_of(generated, seconds)
                both["bulk"] = run.answers_per_s(generated.start_ns, generated.stop_ns)
            for load, figures in (("people", alone), ("bulk", {"bulk": bulk}), ("both", both)):
                rows.setdefault(load, []).append(figures)
                line = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
                bench.say(f"{SCENARIO.name}/room={room},load={load} run {number + 1}: {line}")
    return [_point(room, load, made) for load, made in rows.items()]


def _point(room: int, load: str, rows: list[dict[str, float]]) -> PointResult:
    labels: dict[str, str | int | float] = {"load": load, "room": room}
    kept = ("latency_p50", "latency_p99", "failed", "bulk")
    values = {}
    for key in kept:
        runs = [row[key] for row in rows if key in row]
        if runs:
            values[key] = value_of(interval_of(float(np.median(runs)), median_draws(runs)), runs)
    return PointResult(id=point_id(SCENARIO.name, labels), labels=labels, values=values)


_PLOTS = [
    Plot(title="latency of people's requests, p50", x="room", y=["latency_p50"], series="load", log_x=True),
    Plot(title="answers of the bulk run", x="room", y=["bulk"], series="load", log_x=True),
]
SCENARIO = Scenario(
    "bulk",
    "A bulk run next to people",
    f"A run of {_CALLERS} rows at a time, and Poisson requests of people at {_SHARE:.0%} of what the server "
    "can do: alone and together, by `gate.max_bulk_in_flight` (room), with the LLMs of the deployment.",
    _play,
)
