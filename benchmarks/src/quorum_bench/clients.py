# SPDX-License-Identifier: Apache-2.0
"""Keep callers of the client package asking, in their own processes, while a block runs.

The load generator (:mod:`quorum_bench.load`) measures a server for a fixed time by prepared requests. These
callers ask as users do, by :mod:`quorum_client`, while the server is changed, and record which version of
the weights answered what and when. ``CLOCK_MONOTONIC`` is one clock for all processes of a
machine, so the times of both sides can be compared.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from quorum_bench.load import LoadError
from quorum_bench.workload import Workload
from quorum_client import AsyncClient, Client
from quorum_contract import STABLE

Answer = tuple[float, float, int, str]
"""Sent and answered (monotonic seconds), version of the weights, first value."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Callers:
    """Settings of the callers.

    Attributes:
        url: ``host:port``.
        workload: The requests, repeated in order.
        threads: Blocking clients, each with a connection and a thread of its own, in one process.
        coroutines: Requests in flight of one asyncio client, in another process.
        pause_s: Between an answer and the next question of the same caller.
        timeout_s: Of each call; none is sent again.
        channel: Asked.
    """

    url: str
    workload: Workload
    threads: int = 16
    coroutines: int = 4
    pause_s: float = 0.05
    timeout_s: float = 30.0
    channel: str = STABLE


@dataclass(slots=True)
class Answered:
    """Answers and failures of all callers."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def note(self, sent: float, result: Any) -> None:
        """Record an answer that has just arrived."""
        first = result.answers[0].value or ""
        self.answers.append((sent, time.monotonic(), result.weights_version, first))


@contextmanager
def calling(callers: Callers) -> Iterator[Answered]:
    """Keep callers asking while the block runs; the yielded record is complete when the block has ended.

    Raises:
        LoadError: A caller got no first answer.
    """
    stop, result = _spawn.Event(), Answered()
    started = _spawn.Semaphore(0)
    pipes, processes = [], []
    for target, count in ((_blocking, callers.threads), (_asyncio, callers.coroutines)):
        if not count:
            continue
        receiving, sending = _spawn.Pipe(duplex=False)
        process = _spawn.Process(target=target, args=(callers, stop, started, sending), daemon=True)
        process.start()
        sending.close()
        pipes.append(receiving)
        processes.append(process)
    try:
        for _ in range(callers.threads + callers.coroutines):
            if not started.acquire(timeout=2 * callers.timeout_s):
                raise LoadError(f"a caller of {callers.url} got no answer in {2 * callers.timeout_s:g} s")
        yield result
    finally:
        stop.set()
        for receiving, process in zip(pipes, processes, strict=True):
            part = receiving.recv()
            result.answers += part.answers
            result.failures += part.failures
            process.join()


def _end_with_parent() -> None:
    """End this process when its parent dies; a killed parent sets no event."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


def _blocking(callers: Callers, stop: Any, started: Any, sending: Any) -> None:
    _end_with_parent()
    result, products = Answered(), callers.workload.products

    def caller(number: int) -> None:
        with Client(
            callers.url, channel=callers.channel, retries=False, timeout_s=callers.timeout_s
        ) as client:
            for turn in itertools.count(number):
                product, sent = products[turn % len(products)], time.monotonic()
                try:
                    answer = client.extract(product.text, product.attributes, category=product.category)
                    result.note(sent, answer)
                except Exception as error:
                    result.failures.append(repr(error))
                if turn == number:
                    started.release()
                if stop.wait(callers.pause_s):
                    return

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sending.send(result)


def _asyncio(callers: Callers, stop: Any, started: Any, sending: Any) -> None:
    _end_with_parent()
    result, products = Answered(), callers.workload.products

    async def caller(client: AsyncClient, number: int) -> None:
        turn = number
        while not stop.is_set():
            product, sent = products[turn % len(products)], time.monotonic()
            try:
                answer = await client.extract(product.text, product.attributes, category=product.category)
                result.note(sent, answer)
            except Exception as error:
                result.failures.append(repr(error))
            if turn == number:
                started.release()
            turn += 1
            await asyncio.sleep(callers.pause_s)

    async def all_callers() -> None:
        async with AsyncClient(
            callers.url, channel=callers.channel, retries=False, timeout_s=callers.timeout_s
        ) as client:
            await asyncio.gather(*(caller(client, number) for number in range(callers.coroutines)))

    asyncio.run(all_callers())
    sending.send(result)


@dataclass(slots=True)
class Pins:
    """Record when a channel answered with which version; a change is open from its call to its return."""

    spans: list[tuple[float, float, int]] = field(default_factory=list)

    def change(self, action: Callable[[], Any], version: int) -> None:
        """Make a change and record its time."""
        start = time.monotonic()
        action()
        now = time.monotonic()
        if self.spans:
            first, _, old = self.spans[-1]
            self.spans[-1] = (first, now, old)
        self.spans.append((start, float("inf"), version))

    def allowed(self, sent: float, answered: float) -> set[int]:
        """Return the versions that a request may have been answered with."""
        return {version for start, end, version in self.spans if start <= answered and sent <= end}

    def strangers(self, result: Answered) -> list[Answer]:
        """Return the answers with a version that was not promoted at that moment."""
        return [a for a in result.answers if a[2] not in self.allowed(a[0], a[1])]
