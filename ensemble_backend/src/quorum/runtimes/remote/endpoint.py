# SPDX-License-Identifier: Apache-2.0
"""Decide when one endpoint may be asked: a state machine of limits, pauses and a breaker, without a clock."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from quorum.runtimes.remote.breaker import Breaker, Rules, State
from quorum.runtimes.remote.concurrency import Concurrency
from quorum.runtimes.remote.window import Window

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _MOST_DOUBLINGS = 1.0, 30.0, 5
_SLOW_S, _LATE = 1.0, 1.25
_KEPT = 100
_UNKNOWN_LATENCY_S = 1.0


class Ending(Enum):
    """How a request ended."""

    ANSWERED = auto()
    """With an answer, whatever stands in it."""
    OVERLOADED = auto()
    """The server said that it was too much: 429, or 503 with Retry-After."""
    FAILED = auto()
    """No answer, or none that can be read: it is the server's fault."""
    UNUSABLE = auto()
    """The server refused this question: the server is well."""
    TAUGHT = auto()
    """The server refused a field that it will not be sent again: the question is asked again at once."""
    DROPPED = auto()
    """It was not waited for any more, before its deadline: grace, a quorum, a caller that left."""
    LATE = auto()
    """It was waited for until the deadline."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a request.

    Attributes:
        ending: How it ended.
        retry_after_s: Seconds for which the server wants to be left alone; None: it does not say.
        tokens: Tokens of prompt and answer, where the server says so.
    """

    ending: Ending
    retry_after_s: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an endpoint.

    Attributes:
        requests: Most requests in any ``window_s``; None: no limit.
        tokens: Most tokens likewise.
        concurrency: Most requests in flight.
        window_s: Seconds that the first two count in.
        rules: Of the breaker.
    """

    requests: int | None = None
    tokens: int | None = None
    concurrency: int = 64
    window_s: float = 60.0
    rules: Rules = field(default_factory=Rules)


@dataclass(slots=True)
class Grant:
    """A request that was sent: when, whether as a probe of the breaker, and what it takes of limits."""

    sent_at: float
    is_probe: bool
    tokens: int
    is_counted: bool = False


class Latencies:
    """The latest times of answers, in seconds."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self._latest.append(seconds)
        insort(self._sorted, seconds)
        if len(self._latest) > _KEPT:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def share(self, share: float) -> float | None:
        """The time that this share of them does not exceed; None without any."""
        if not self._sorted:
            return None
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]


class Endpoint:
    """One endpoint; ``now`` is of one clock that never goes back, in seconds.

    :meth:`ready_at` says when a request may be sent, :meth:`start` sends it, :meth:`counted` notes that its
    answer has begun, and :meth:`end` how it ended.
    """

    def __init__(self, url: str, limits: Limits, chance: random.Random | None = None) -> None:
        self.url, self.limits = url, limits
        self.breaker, self.latencies = Breaker(limits.rules), Latencies()
        self.concurrency = Concurrency(limits.concurrency)
        self._requests = Window(limits.requests, limits.window_s) if limits.requests else None
        self._tokens = Window(limits.tokens, limits.window_s) if limits.tokens else None
        self._chance = chance or random.Random()
        self._held_until, self._pauses = -math.inf, 0
        self._is_learning = False

    def ready_at(self, now: float, tokens: int) -> float:
        """When a request of so many tokens may be sent: ``now``, later, or inf: after another has ended."""
        if self.concurrency.is_full or (self._is_learning and self.concurrency.in_flight):
            return math.inf
        times = [now, self.breaker.passes_at(now), self._held_until]
        if self._requests is not None:
            times.append(self._requests.free_at(now, 1))
        if self._tokens is not None:
            times.append(self._tokens.free_at(now, tokens))
        return max(times)

    def is_open(self, now: float) -> bool:
        """Whether the breaker keeps requests from being sent now."""
        return self.breaker.passes_at(now) > now

    def start(self, now: float, tokens: int) -> Grant:
        """Count a request that is sent, which must be ready."""
        self.concurrency.enter()
        if self._requests is not None:
            self._requests.take(now, 1)
        taken = self._tokens.take(now, tokens) if self._tokens is not None else 0
        return Grant(now, self.breaker.enter(), taken)

    def counted(self, grant: Grant, now: float) -> None:
        """Note that the server has begun its answer."""
        if self._requests is not None and not grant.is_counted:
            self._requests.counted(now, 1)
        grant.is_counted = True

    def end(self, grant: Grant, now: float, end: End) -> Ending:
        """Note how a request ended; returns what it counts as: a late one as failed, or as dropped."""
        self.counted(grant, now)
        ending = self._judged(grant, now, end.ending)
        if self._tokens is not None:
            self._tokens.counted(now, grant.tokens, end.tokens)
        # Until it is known which fields it takes, one request at a time leads, or all would be refused.
        if ending is not Ending.DROPPED:
            self._is_learning = ending is Ending.TAUGHT
        answered, overloaded = ending is Ending.ANSWERED, ending is Ending.OVERLOADED
        self.concurrency.leave(grant.sent_at, now, answered, overloaded or ending is Ending.FAILED)
        if answered:
            self.latencies.add(now - grant.sent_at)
        is_well = {Ending.DROPPED: None, Ending.FAILED: False}.get(ending, True)
        # A server that refuses for its load is there, but has not shown that it answers.
        self.breaker.leave(now, None if overloaded and not grant.is_probe else is_well, grant.is_probe)
        self._hold(grant, now, end.retry_after_s, answered, overloaded)
        return ending

    @property
    def slow_s(self) -> float:
        """A late request failed if it was waited for so long: a quarter over the median, at least 1 s."""
        return max(_SLOW_S, _LATE * (self.latencies.share(0.5) or 0.0))

    @property
    def expected_s(self) -> float:
        """How long an answer takes, as far as is known, longer the busier it is: for choosing."""
        usual = self.latencies.share(0.5)
        busy = 1 + self.concurrency.in_flight / self.concurrency.limit
        return (_UNKNOWN_LATENCY_S if usual is None else usual) * busy

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self.breaker.state

    @property
    def rate(self) -> float:
        """Requests per second that its limit allows; inf without one."""
        return self.limits.requests / self.limits.window_s if self.limits.requests else math.inf

    def held_s(self, now: float) -> float:
        """Seconds for which the server wants to be left alone."""
        return max(0.0, self._held_until - now)

    def _judged(self, grant: Grant, now: float, ending: Ending) -> Ending:
        """A deadline says something of the endpoint only where it left it enough time."""
        if ending is not Ending.LATE:
            return ending
        return Ending.FAILED if now - grant.sent_at >= self.slow_s else Ending.DROPPED

    def _hold(
        self, grant: Grant, now: float, wanted_s: float | None, answered: bool, overloaded: bool
    ) -> None:
        if answered:
            self._pauses = 0
        # A date that is past, or 0, must not make a storm.
        if wanted_s:
            self._held_until = max(self._held_until, now + wanted_s)
        # Of requests that were in flight together, one alone makes the pause longer.
        elif overloaded and grant.sent_at >= self._held_until:
            pause_s = min(_FIRST_PAUSE_S * 2**self._pauses, _LONGEST_PAUSE_S)
            self._pauses = min(self._pauses + 1, _MOST_DOUBLINGS)
            self._held_until = now + pause_s * self._chance.uniform(0.75, 1.25)
