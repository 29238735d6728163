# SPDX-License-Identifier: Apache-2.0
"""Let questions wait in line until an endpoint may be asked, for a bounded time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from quorum.runtimes.remote.choice import choose, rate_of
from quorum.runtimes.remote.endpoint import End, Ending, Endpoint, Grant
from quorum_contract import Status


class Place(NamedTuple):
    """A request that may be sent, and is counted."""

    endpoint: Endpoint
    grant: Grant


class Line:
    """First come, first served. For one event loop.

    Args:
        endpoints: At least one.
        max_wait_s: Longest wait.
        clock: Of the endpoints, in seconds.
    """

    def __init__(self, endpoints: Sequence[Endpoint], max_wait_s: float, clock: Callable[[], float]) -> None:
        self._endpoints, self._max_wait_s, self._clock = endpoints, max_wait_s, clock
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()
        self.waiting = 0

    async def enter(self, tokens: int, avoid: Collection[Endpoint] = ()) -> Place | Status:
        """Wait until a request of so many tokens may be sent, and count it as sent.

        Args:
            tokens: Of prompt and answer.
            avoid: As for :func:`quorum.runtimes.remote.choice.choose`.

        Returns:
            ``OVERLOADED`` if limits do not let it through within ``max_wait_s``, at once where that is known;
            ``ERROR`` if all endpoints fail.
        """
        if self.waiting / rate_of(self._endpoints) > self._max_wait_s:
            return Status.OVERLOADED
        self.waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s) as left:
                async with self._turn:
                    return await self._first(tokens, avoid, left)
        except TimeoutError:
            return Status.OVERLOADED
        finally:
            self.waiting -= 1

    def try_now(self, tokens: int, avoid: Collection[Endpoint], pay: Callable[[], bool]) -> Place | None:
        """Count a request as sent to another endpoint, if none waits, one is ready, and ``pay`` does."""
        now = self._clock()
        others = [endpoint for endpoint in self._endpoints if endpoint not in avoid]
        found = choose(others, now, tokens).endpoint if others and not self.waiting else None
        return Place(found, found.start(now, tokens)) if found and pay() else None

    def end(self, place: Place, end: End) -> Ending:
        """Note how a request ended, as :meth:`.endpoint.Endpoint.end`, and let the next one look."""
        self._changed.set()
        return place.endpoint.end(place.grant, self._clock(), end)

    async def _first(self, tokens: int, avoid: Collection[Endpoint], left: asyncio.Timeout) -> Place | Status:
        """Wait as the first of the line."""
        while True:
            self._changed.clear()
            now = self._clock()
            choice = choose(self._endpoints, now, tokens, avoid)
            if choice.endpoint is not None:
                return Place(choice.endpoint, choice.endpoint.start(now, tokens))
            if choice.all_open:
                return Status.ERROR
            pause_s = choice.look_at - now
            if math.isinf(pause_s):
                await self._changed.wait()
                continue
            if pause_s > _left_s(left):
                return Status.OVERLOADED
            try:
                await asyncio.wait_for(self._changed.wait(), pause_s)
            except TimeoutError:
                continue


def _left_s(timeout: asyncio.Timeout) -> float:
    at = timeout.when()
    return math.inf if at is None else at - asyncio.get_running_loop().time()
