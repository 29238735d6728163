# SPDX-License-Identifier: Apache-2.0
"""Steady load from processes of its own, and what a channel was told to answer with while it ran.

``CLOCK_MONOTONIC`` is one clock for all processes of a machine, so both sides can be compared.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.deployment import ATTRIBUTES, title

from quorum_client import AsyncClient, Client

THREADS, COROUTINES = 16, 4
_spawn = multiprocessing.get_context("spawn")


@dataclass
class Answered:
    """What came back: (sent, answered, version, first value) by the monotonic clock, and what failed."""

    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def note(self, sent: float, found: Any) -> None:
        self.answers.append((sent, time.monotonic(), found.weights_version, found.answers[0].value or ""))


@contextmanager
def streams(url: str, channel: str = "quorum", pause_s: float = 0.05) -> Iterator[Answered]:
    """16 blocking clients, each with a connection and a thread of its own, in one process; one asyncio client
    with 4 requests in flight in another. Each asks, waits for the answer, and pauses. Nothing is retried.

    The result is filled when the block ends.
    """
    stop, result = _spawn.Event(), Answered()
    started = _spawn.Semaphore(0)
    pipes = []
    processes = []
    for target in (_blocking, _asyncio):
        receiving, sending = _spawn.Pipe(duplex=False)
        process = _spawn.Process(
            target=target, args=(url, channel, pause_s, stop, started, sending), daemon=True
        )
        process.start()
        sending.close()
        pipes.append(receiving)
        processes.append(process)
    try:
        for _ in range(THREADS + COROUTINES):
            if not started.acquire(timeout=60):
                raise RuntimeError("the load did not start within 60 s")
        yield result
    finally:
        stop.set()
        for receiving, process in zip(pipes, processes, strict=True):
            part = receiving.recv()
            result.answers += part.answers
            result.failures += part.failures
            process.join()


def _blocking(url: str, channel: str, pause_s: float, stop: Any, started: Any, sending: Any) -> None:
    result = Answered()

    def caller(number: int) -> None:
        with Client(url, channel=channel, retries=False, timeout_s=30) as client:
            for turn in range(number, 1 << 60):
                try:
                    sent = time.monotonic()
                    result.note(sent, client.extract(title(turn % 24), ATTRIBUTES))
                except Exception as error:
                    result.failures.append(repr(error))
                if turn == number:
                    started.release()
                if stop.wait(pause_s):
                    return

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sending.send(result)


def _asyncio(url: str, channel: str, pause_s: float, stop: Any, started: Any, sending: Any) -> None:
    result = Answered()

    async def caller(client: AsyncClient, number: int) -> None:
        turn = number
        while not stop.is_set():
            try:
                sent = time.monotonic()
                result.note(sent, await client.extract(title(turn % 24), ATTRIBUTES))
            except Exception as error:
                result.failures.append(repr(error))
            if turn == number:
                started.release()
            turn += 1
            await asyncio.sleep(pause_s)

    async def everybody() -> None:
        async with AsyncClient(url, channel=channel, retries=False, timeout_s=30) as client:
            await asyncio.gather(*(caller(client, n) for n in range(COROUTINES)))

    asyncio.run(everybody())
    sending.send(result)


@dataclass
class Pins:
    """When a channel was told to answer with which version; a change is open from its call to its return."""

    spans: list[tuple[float, float, int]] = field(default_factory=list)

    def change(self, action: Callable[[], Any], version: int) -> None:
        """Do it and note when."""
        start = time.monotonic()
        action()
        now = time.monotonic()
        if self.spans:
            first, _, old = self.spans[-1]
            self.spans[-1] = (first, now, old)
        self.spans.append((start, float("inf"), version))

    def allowed(self, sent: float, answered: float) -> set[int]:
        """Versions that a request may have been answered with."""
        return {version for start, end, version in self.spans if start <= answered and sent <= end}

    def strangers(self, result: Answered) -> list[tuple[float, float, int, str]]:
        """Answers with a version that was not promoted at that moment."""
        return [a for a in result.answers if a[2] not in self.allowed(a[0], a[1])]
