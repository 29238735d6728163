# SPDX-License-Identifier: Apache-2.0
"""Ask many times while members break and come back, and watch whether the server grows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from quorum_bench.chaos.cases import member_faults
from quorum_bench.chaos.errors import ChaosError
from quorum_bench.chaos.faults import Fault, begin
from quorum_bench.chaos.processes import server_of
from quorum_bench.chaos.traffic import CALL_S, Outcome, outcome_of
from quorum_bench.chaos.world import World
from quorum_client import AsyncClient, QuorumError

_CALLERS = 16
_FAULT_S = 3.0
_QUIET_S = 2.0
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at a moment in which nothing is broken.

    Attributes:
        asked: Requests so far.
        outcomes: Outcome -> requests.
        wrong: Answers that differ from the offline vote of the members that answered.
        memory_bytes: Resident memory of the server and its steps, workers not counted.
        handles: Open files of the same processes.
        processes: Of the server, workers included.
        shared_bytes: Size of the server's files in shared memory.
        log_bytes: Size of its log.
        faults: That have come and gone.
    """

    asked: int
    outcomes: dict[str, int]
    wrong: int
    memory_bytes: int
    handles: int
    processes: int
    shared_bytes: int
    log_bytes: int
    faults: int


def soak(world: World, requests: int, samples: int = 10, seed: int = 0) -> Iterator[Sample]:
    """Yield a sample at the beginning and after each ``requests / samples`` requests or more.

    Between two samples one fault at least comes and goes.

    Raises:
        ChaosError: Callers ended on an error of their own, or not every member came back.
    """
    draw = random.Random(seed)
    callers = _Callers(world)
    faults = 0
    yield _sample(world, callers, faults)
    for part in range(samples):
        goal = requests * (part + 1) // samples
        with callers:
            is_first = True
            while is_first or callers.asked < goal:
                callers.check()
                _pass(world, draw.choice(member_faults()))
                is_first, faults = False, faults + 1
        callers.check()
        if not world.wait_whole(_PATIENCE_S):
            raise ChaosError(f"not every member is back {_PATIENCE_S:g} s after a fault; see `quorum status`")
        time.sleep(_QUIET_S)
        yield _sample(world, callers, faults)


def _pass(world: World, fault: Fault) -> None:
    """Let a fault come and go."""
    lift = begin(fault, world.spec, world.faults)
    try:
        time.sleep(_FAULT_S)
    finally:
        lift()
    time.sleep(_QUIET_S)


class _Callers:
    """Callers with one request in flight each, on a thread of their own while the block runs."""

    def __init__(self, world: World) -> None:
        self._world, self._stop = world, threading.Event()
        self.asked, self.wrong = 0, 0
        self.outcomes = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Raise ChaosError if a caller has ended on an error of its own: nothing would be counted."""
        if self._failure is not None:
            raise ChaosError(f"the requests ended early: {self._failure!r}") from self._failure

    def _ask_all(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._failure = error

    def __enter__(self) -> _Callers:
        self._stop.clear()
        self._thread = threading.Thread(target=self._ask_all, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    async def _run(self) -> None:
        async with AsyncClient(self._world.url, timeout_s=CALL_S, retries=False) as client:
            await asyncio.gather(*(self._call(client, caller) for caller in range(_CALLERS)))

    async def _call(self, client: AsyncClient, caller: int) -> None:
        products = self._world.workload.products
        at = caller
        while not self._stop.is_set():
            product = products[at % len(products)]
            at += 1
            try:
                answer = await client.extract(product.text, product.attributes, category=product.category)
                outcome = Outcome.answered
                self.wrong += bool(self._world.mistakes(product, answer))
            except QuorumError as error:
                outcome = outcome_of(error)
                await asyncio.sleep(0.05)
            self.asked += 1
            self.outcomes[outcome.value] += 1


def _sample(world: World, callers: _Callers, faults: int) -> Sample:
    server = server_of(world.spec)
    memory = handles = 0
    # Workers are given new processes: what counts is what stays.
    for process in [server, *server.children()]:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss
            handles += process.num_fds()
    log = world.folder / ".quorum" / "server.log"
    return Sample(
        asked=callers.asked,
        outcomes=dict(callers.outcomes),
        wrong=callers.wrong,
        memory_bytes=memory,
        handles=handles,
        processes=1 + len(server.children(recursive=True)),
        shared_bytes=world.shared_bytes(),
        log_bytes=log.stat().st_size if log.exists() else 0,
        faults=faults,
    )
