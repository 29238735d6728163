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
        clock: Of the endpoints, in seconds.
    """

    def __init__(self, endpoints: Sequence[Endpoint], clock: Callable[[], float]) -> None:
        self._endpoints, self._clock = endpoints, clock
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()
        self.waiting = 0

    async def enter(
        self, tokens: int, until: float, deadline: float, avoid: Collection[Endpoint] = ()
    ) -> Place | Status:
        """Wait until a request of so many tokens may be sent, and count it as sent.

        Args:
            tokens: Of prompt and answer.
            until: When it waits no longer, by the clock: one time for all tries of a question.
            deadline: When nothing is sent, and nothing waited for, any more, by the clock.
            avoid: As for :func:`quorum.runtimes.remote.choice.choose`.

        Returns:
            ``OVERLOADED`` if limits do not let it through until then, at once where that is known;
            ``TIMEOUT`` at the deadline; ``ERROR`` if all endpoints fail.
        """
        until = min(until, deadline)
        left_s = max(0.0, until - self._clock())
        if left_s and self.waiting / rate_of(self._endpoints) > left_s:
            return Status.OVERLOADED
        self.waiting += 1
        try:
            async with asyncio.timeout(left_s), self._turn:
                return await self._first(tokens, until, deadline, avoid)
        except TimeoutError:
            return Status.TIMEOUT if until == deadline else Status.OVERLOADED
        finally:
            self.waiting -= 1

    def try_now(self, tokens: int, avoid: Collection[Endpoint], pay: Callable[[], bool]) -> Place | None:
        """Count a request as sent to another endpoint, if none waits, one is ready, and ``pay`` does."""
        now = self._clock()
        others = [endpoint for endpoint in self._endpoints if endpoint not in avoid]
        other = choose(others, now, tokens).endpoint if others and not self.waiting else None
        return Place(other, other.start(now, tokens)) if other and pay() else None

    def end(self, place: Place, end: End) -> Ending:
        """Note how a request ended, as :meth:`.endpoint.Endpoint.end`, and let the next one look."""
        self._changed.set()
        return place.endpoint.end(place.grant, self._clock(), end)

    async def _first(
        self, tokens: int, until: float, deadline: float, avoid: Collection[Endpoint]
    ) -> Place | Status:
        """Wait as the first of the line."""
        while True:
            self._changed.clear()
            now = self._clock()
            if now >= deadline:
                return Status.TIMEOUT
            choice = choose(self._endpoints, now, tokens, avoid)
            if choice.endpoint is not None:
                return Place(choice.endpoint, choice.endpoint.start(now, tokens))
            if choice.all_open:
                return Status.ERROR
            pause_s = choice.look_at - now
            if math.isinf(pause_s):
                await self._changed.wait()
                continue
            if pause_s > until - now:
                return Status.OVERLOADED
            try:
                await asyncio.wait_for(self._changed.wait(), pause_s)
            except TimeoutError:
                continue
