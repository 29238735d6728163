# SPDX-License-Identifier: Apache-2.0
"""Ask at a fixed rate while something breaks, and keep every outcome."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from quorum_bench.chaos.errors import ChaosError
from quorum_bench.workload import Product
from quorum_client import (
    AsyncClient,
    DeadlineExceeded,
    Disconnected,
    Extraction,
    QuorumError,
    Unavailable,
    Unreachable,
)

CALL_S = 2.0
"""Deadline of every call."""


class Outcome(StrEnum):
    """What a caller got.

    ``refused``: the server says so in time, and asked no member; ``broken``: the call failed, or no server
    was there; ``late``: nothing within the deadline.
    """

    answered = "answered"
    refused = "refused"
    broken = "broken"
    late = "late"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        product: What was asked.
        sent_s: When, on the monotonic clock.
        took_s: Until the outcome.
        answer: Of an answered one.
        error: Of any other.
    """

    product: Product
    sent_s: float
    took_s: float
    outcome: Outcome
    answer: Extraction | None = None
    error: str = ""


@dataclass(slots=True)
class Traffic:
    """Asks for products in turn, ``rate_per_s`` times a second whatever becomes of earlier calls.

    Attributes:
        asked: Finished requests, in the order of their ends.
    """

    url: str
    products: tuple[Product, ...]
    rate_per_s: float
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask_all, name="traffic", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        if self._failure is not None and error is None:
            raise ChaosError(f"the requests ended early: {self._failure!r}") from self._failure

    def _ask_all(self) -> None:
        try:
            asyncio.run(self._run())
        # Also what no caller expects: requests that were not counted would look like none that failed.
        except BaseException as error:
            self._failure = error

    async def _run(self) -> None:
        async with (
            AsyncClient(self.url, timeout_s=CALL_S, retries=False) as client,
            asyncio.TaskGroup() as calls,
        ):
            start = time.monotonic()
            for number, product in enumerate(itertools.cycle(self.products)):
                pause_s = start + number / self.rate_per_s - time.monotonic()
                while pause_s > 0 and not self._stop.is_set():
                    await asyncio.sleep(min(pause_s, 0.1))
                    pause_s = start + number / self.rate_per_s - time.monotonic()
                if self._stop.is_set():
                    break
                calls.create_task(self._ask(client, product))

    async def _ask(self, client: AsyncClient, product: Product) -> None:
        sent_s = time.monotonic()
        answer, error, outcome = None, "", Outcome.answered
        try:
            answer = await client.extract(product.text, product.attributes, category=product.category)
        except QuorumError as failed:
            outcome, error = outcome_of(failed), f"{failed.code}: {failed}"
        self.asked.append(Asked(product, sent_s, time.monotonic() - sent_s, outcome, answer, error))


def outcome_of(error: QuorumError) -> Outcome:
    """What a failed call means for its caller."""
    if isinstance(error, DeadlineExceeded):
        return Outcome.late
    if isinstance(error, Unavailable) and not isinstance(error, Disconnected | Unreachable):
        return Outcome.refused
    return Outcome.broken


@contextmanager
def traffic(url: str, products: tuple[Product, ...], rate_per_s: float) -> Iterator[Traffic]:
    """Ask while a block runs; calls in flight are awaited at its end."""
    with Traffic(url, products, rate_per_s) as running:
        yield running
