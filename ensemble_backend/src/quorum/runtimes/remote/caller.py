# SPDX-License-Identifier: Apache-2.0
"""Answer questions by endpoints: wait for limits, ask, ask again where that is worth it and paid for."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Collection, Coroutine, Sequence
from functools import lru_cache, partial
from typing import Any

from quorum.runtimes.base import Question, Reply, Unsent
from quorum.runtimes.control_tokens import ControlTokens
from quorum.runtimes.remote.budget import RetryBudget
from quorum.runtimes.remote.endpoint import End, Ending, Endpoint
from quorum.runtimes.remote.exchange import Asked, Outcome
from quorum.runtimes.remote.line import Line, Place
from quorum.runtimes.remote.note import RemoteState
from quorum.runtimes.remote.watched import Watched
from quorum_contract import Status

_TRIES = 3
_PAUSE_S = 0.1
_TOKENS_PER_CHAR = 0.4
_SHARE_NEW, _MOST_PER_CHAR = 0.1, 4.0
_HEDGE_SHARE = 0.95
_HEDGE_AFTER = 20
_TOO_LATE_S, _TOO_LATE = 0.05, 0.1
"""A question that is not sent so long before its deadline, or before this last share of its time, is given
up: so it is known to be no call when the deadline comes."""


class Caller:
    """Asks the endpoints of one member. For one event loop.

    Args:
        member: Its name.
        watched: Its endpoints.
        max_tokens: Longest answer.
        max_wait_s: Longest wait of a question for limits.
        hedge: Whether a slow question is asked of another endpoint as well.
    """

    def __init__(
        self, member: str, watched: Sequence[Watched], max_tokens: int, max_wait_s: float, hedge: bool
    ) -> None:
        self._member, self._max_tokens, self._hedge = member, max_tokens, hedge
        self._max_wait_s = max_wait_s
        self._watched = {one.endpoint: one for one in watched}
        self._line = Line(list(self._watched), time.monotonic)
        self._budget, self._controls = RetryBudget(), ControlTokens(())
        self._per_char = _TOKENS_PER_CHAR
        self._questions = self._repeated = 0
        self._schema = lru_cache(maxsize=256)(_decoded)

    async def answer(self, question: Question) -> Reply:
        """Answer before the deadline, or with the status of the abstention, also where it is cancelled."""
        self._questions += 1
        self._budget.save()
        prompt = self._controls.remove(question.prompt)
        left_s = max(0.0, question.left_s)
        asked = Asked(
            prompt,
            self._schema(question.schema),
            math.ceil(len(prompt) * self._per_char),
            time.monotonic() + left_s,
        )
        tries = _Tries()
        try:
            async with asyncio.timeout(left_s):
                return await self._answer(asked, tries, left_s)
        except (TimeoutError, asyncio.CancelledError):
            return tries.ended(Status.TIMEOUT)

    def state(self) -> RemoteState:
        """For other processes."""
        now = time.monotonic()
        return RemoteState(
            self._member,
            os.getpid(),
            tuple(one.state(now) for one in self._watched.values()),
            self._questions,
            self._repeated,
            self._line.waiting,
        )

    async def _answer(self, asked: Asked, tries: _Tries, left_s: float) -> Reply:
        failed: list[Endpoint] = []
        until, tokens = time.monotonic() + self._max_wait_s, asked.prompt_tokens + self._max_tokens
        latest = asked.deadline - min(_TOO_LATE_S, _TOO_LATE * left_s)
        while True:
            place = await self._line.enter(tokens, until, latest, failed)
            if isinstance(place, Status):
                return tries.ended(tries.status if place is Status.ERROR else place)
            tries.begin()
            outcome = await self._hedged(place, asked)
            tries.end(outcome.reply)
            if outcome.end.ending is Ending.TAUGHT:
                self._repeated += 1
                continue
            if outcome.end.ending not in (Ending.FAILED, Ending.OVERLOADED):
                return outcome.reply
            failed.append(place.endpoint)
            if len(failed) >= _TRIES or not self._budget.pay():
                return tries.ended(tries.status)
            self._repeated += 1
            if set(failed) >= self._watched.keys():
                await asyncio.sleep(random.uniform(0, _PAUSE_S * 2 ** len(failed)))

    async def _hedged(self, place: Place, asked: Asked) -> Outcome:
        """Ask, and if that takes longer than usual, ask another endpoint too; the first answer counts."""
        first, endpoint = self._ask(place, asked), place.endpoint
        after_s = endpoint.latencies.share(_HEDGE_SHARE)
        if not self._hedge or after_s is None or self._watched[endpoint].answered < _HEDGE_AFTER:
            return await first
        tasks = {asyncio.ensure_future(first)}
        try:
            done, _ = await asyncio.wait(tasks, timeout=after_s)
            if not done and (second := self._second(asked, [endpoint])):
                tasks.add(asyncio.ensure_future(second))
            return await _first_good(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _second(self, asked: Asked, avoid: Collection[Endpoint]) -> Coroutine[Any, Any, Outcome] | None:
        place = self._line.try_now(asked.prompt_tokens + self._max_tokens, avoid, self._budget.pay)
        if place is None:
            return None
        self._repeated += 1
        return self._ask(place, asked)

    async def _ask(self, place: Place, asked: Asked) -> Outcome:
        watched = self._watched[place.endpoint]
        outcome: Outcome | None = None
        counted = partial(_counted, place)
        watched.sent()
        try:
            outcome = await watched.exchange.ask(asked, counted)
        finally:
            dropped = End(Ending.LATE if asked.left_s <= 0 else Ending.DROPPED)
            watched.ended(self._line.end(place, outcome.end if outcome else dropped), outcome)
        self._learn(asked, outcome)
        return outcome

    def _learn(self, asked: Asked, outcome: Outcome) -> None:
        """Learn how many tokens a prompt has, for limits."""
        usage = getattr(outcome.reply, "usage", None)
        if usage is not None and usage.prompt_tokens and asked.prompt:
            # A server may say anything.
            per_char = min(usage.prompt_tokens / len(asked.prompt), _MOST_PER_CHAR)
            self._per_char += _SHARE_NEW * (per_char - self._per_char)


class _Tries:
    """What came of the tries of one question so far.

    Attributes:
        status: Of the last one; ``OVERLOADED`` only where none was a call.
    """

    def __init__(self) -> None:
        self.status = Status.ERROR
        self._is_call = self._is_asking = False

    def begin(self) -> None:
        """Note that a request is sent."""
        self._is_asking = True

    def end(self, reply: Reply) -> None:
        """Note what came of it: one that did not reach an endpoint, or was too much for it, is no call."""
        self._is_asking = False
        if isinstance(reply, Unsent):
            return
        self._is_call = self._is_call or reply is not Status.OVERLOADED
        if isinstance(reply, Status) and (reply is not Status.OVERLOADED or not self._is_call):
            self.status = reply

    def ended(self, status: Status) -> Reply:
        """The abstention with which the question ends."""
        # Of one that says "overloaded" no call is counted.
        if self._is_call or self._is_asking:
            return self.status if status is Status.OVERLOADED else status
        return status if status is Status.OVERLOADED else Unsent(status)


async def _first_good(tasks: Collection[asyncio.Future[Outcome]]) -> Outcome:
    """The first answer, or the last failure."""
    left = set(tasks)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        outcomes = [task.result() for task in done]
        good = [one for one in outcomes if one.end.ending is Ending.ANSWERED]
        if good or not left:
            return (good or outcomes)[0]


def _counted(place: Place) -> None:
    place.endpoint.counted(place.grant, time.monotonic())


def _decoded(schema: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(schema)
    return decoded
