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
        """Answer before the deadline, or with the status of the abstention."""
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
        try:
            async with asyncio.timeout(left_s):
                return await self._answer(asked)
        except TimeoutError:
            return Status.TIMEOUT

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

    async def _answer(self, asked: Asked) -> Reply:
        failed: list[Endpoint] = []
        status: Reply = Unsent(Status.ERROR)
        until, tokens = time.monotonic() + self._max_wait_s, asked.prompt_tokens + self._max_tokens
        while True:
            place = await self._line.enter(tokens, until, asked.deadline, failed)
            if isinstance(place, Status):
                return status if place is Status.ERROR else place
            outcome = await self._hedged(place, asked)
            if outcome.end.ending is Ending.TAUGHT:
                self._repeated += 1
                continue
            if outcome.end.ending not in (Ending.FAILED, Ending.OVERLOADED):
                return outcome.reply
            if not isinstance(outcome.reply, Unsent):
                status = outcome.reply
            failed.append(place.endpoint)
            if len(failed) >= _TRIES or not self._budget.pay():
                return status
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
