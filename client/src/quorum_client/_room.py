# SPDX-License-Identifier: Apache-2.0
"""Decide when the calls of a bulk run are sent, so that it fills the server's room and no more."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections.abc import Callable

from quorum_client._limits import Concurrency, limit_of
from quorum_client.errors import DeadlineExceeded, Disconnected, InvalidRequest, Overloaded, Unavailable

OnWait = Callable[[Unavailable | None], None]
"""Called with the error that a run waits for the end of, and with ``None`` when it goes on."""

AWAY_S = 60.0
"""How long a bulk run waits for a server that is away: longer than one that is started again takes."""

IN_ORDER, AS_THEY_COME = 4, 2
"""Rounds of a run's window: more where a slow product at the head holds up the answers after it."""

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 2.0
_JITTER = 0.2


class Room:
    """The calls in flight of one run: as many as the caller wants, fewer while the server refuses some.

    A refusal means that the server is full, so fewer calls are kept in flight (:mod:`quorum_client._limits`),
    and the refused one is sent again when another of this run is answered: no clock is needed. Only a run
    without any call in flight waits for a while, longer each time. The oldest call goes first. A server that
    is away is waited for in the same way, but not for ever. All methods may be called from any thread.

    Args:
        concurrency: The most calls in flight; ``"auto"``: as many as the server answers best.
        away_s: How long a server that is away is waited for, in seconds, counted from the first call that did
            not find it; any answer or refusal ends that time. ``None``: no call is sent again at all.
        on_wait: Called when the run has no call in flight and waits, and when it goes on.
        timeout_s: Deadline of a call, seconds.
        now: A clock, seconds.

    Raises:
        InvalidRequest: ``concurrency`` cannot be.
    """

    def __init__(
        self,
        concurrency: Concurrency,
        away_s: float | None = None,
        on_wait: OnWait | None = None,
        timeout_s: float = 30.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit_of(concurrency, timeout_s)
        self._now = now
        self._ended = False
        self._away_s, self._on_wait = away_s, on_wait
        self._away_since: float | None = None
        self._is_waiting = False
        self._inside = 0
        self._pauses = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._lock = threading.Lock()

    @property
    def most(self) -> int:
        """The most calls that will ever be in flight."""
        return self._limit.most

    def window(self, rounds: int) -> int:
        """The most items started and not yet yielded: so many times the calls in flight."""
        return rounds * math.ceil(self._limit.value)

    def ask(self, number: int, start: Callable[[], None]) -> None:
        """Call ``start`` once call ``number`` may be sent; every number waits at most once at a time."""
        with self._lock:
            heapq.heappush(self._waiting, (number, start))
            self._let_in()

    def ended(self) -> None:
        """Take note of the end of a call that leaves the room later: the run does not wait any more."""
        self._say(None)

    def leave(self, *, answered: bool, error: BaseException | None = None) -> None:
        """Take note of the end of a call that is not sent again, and of its error.

        One that broke off makes the room smaller, as a refusal does: where all break at once, the connection
        is dead, and others would be sent into it. So does one that is late.
        """
        self._say(None)
        with self._lock:
            self._inside -= 1
            if self._away_s is not None and isinstance(error, Disconnected | DeadlineExceeded):
                self._limit.refused(self._inside, full=isinstance(error, DeadlineExceeded))
            if answered:
                self._pauses, self._away_since = 0, None
                self._limit.answered(self._now(), starved=not self._waiting)
            self._let_in()

    def postpones(self, error: BaseException) -> bool:
        """Whether a call that ended so is sent again: no member was asked, and the time is not over."""
        safe = isinstance(error, Unavailable) and not isinstance(error, Disconnected)
        if self._away_s is None or not safe:
            return False
        with self._lock:
            now = self._now()
            if isinstance(error, Overloaded):
                self._away_since = None
            elif self._away_since is None:
                self._away_since = now
            if self._away_since is None or now - self._away_since < self._away_s:
                return True
            self._limit.gone()
            return False

    def refused(self, number: int, start: Callable[[], None], error: Unavailable) -> float | None:
        """Take note that the server refused call ``number`` because it is full, or is away.

        Returns:
            ``None``: ``start`` is called once it may be sent again. Else it is to be sent again after so many
            seconds, without being started.
        """
        with self._lock:
            if self._inside > 1:
                self._inside -= 1
                self._limit.refused(self._inside, full=isinstance(error, Overloaded))
                heapq.heappush(self._waiting, (number, start))
                return None
            self._limit.alone(full=isinstance(error, Overloaded))
            pause_s = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2.0**self._pauses)
            self._pauses += 1
        self._say(error)
        return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)

    def close(self) -> None:
        """Start everything that waits: the run has ended."""
        with self._lock:
            self._ended = True
            while self._waiting:
                heapq.heappop(self._waiting)[1]()

    def _say(self, error: Unavailable | None) -> None:
        """Report a wait, and its end."""
        if self._on_wait and (error or self._is_waiting):
            self._on_wait(error)
        self._is_waiting = error is not None

    def _let_in(self) -> None:
        while self._waiting and (self._ended or self._inside + 1 <= self._limit.value):
            self._inside += 1
            heapq.heappop(self._waiting)[1]()


def check_away(away_s: float) -> float:
    """Seconds to wait for a server that is away.

    Raises:
        InvalidRequest: It is not a number of 0 or more.
    """
    if isinstance(away_s, bool) or not isinstance(away_s, int | float) or not away_s >= 0:
        raise InvalidRequest(f"away_s: {away_s!r}; give seconds, 0 or more")
    return float(away_s)
