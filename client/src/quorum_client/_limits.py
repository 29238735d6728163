# SPDX-License-Identifier: Apache-2.0
"""How many calls of a run are in flight: as many as the caller names, or as many as serve best.

The second is hill climbing on throughput, as the thread pool of .NET does it (Hellerstein, Morrison and
Eilebrecht, "Applying control theory in the real world: experience with building a controller for the .NET
thread pool", SIGMETRICS 2009), with the additive increase and multiplicative decrease of Chiu and Jain (1989)
for refusals. Limits that go by latency (TCP Vegas, gradients) do not fit servers that batch: there latency
grows with the calls in flight long before throughput stops to.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Literal, Protocol

from quorum_client.errors import InvalidRequest

AUTO: Final = "auto"
Concurrency = int | Literal["auto"]
"""The most calls in flight; ``"auto"``: as many as the server answers best."""

_REFUSED = 0.75

FIRST = 16
"""Calls in flight at the start of a search."""
MOST = 256
"""The most that a search tries."""
_REFUSED_SEARCH = 0.9
_DOUBLED = 1.1
_STEP = 1.25
_BETTER, _AS_GOOD = 1.05, 0.98
_LONGEST_HOLD = 8
_LEAST_ANSWERS, _LEAST_S = 8, 0.25
_STARVED = 0.2


class Limit(Protocol):
    """The calls that may be in flight.

    Attributes:
        value: How many, 1 or more.
        most: The most that it will ever be.
    """

    value: float
    most: int

    def answered(self, now: float, *, starved: bool) -> None:
        """Note an answer at a time in seconds; ``starved``: no call waits to take its place."""

    def refused(self, inside: int) -> None:
        """Note that the server refused a call, or lost its connection, and that so many are left."""

    def alone(self, *, full: bool) -> None:
        """Note that the only call in flight was refused: the server is full, or else away."""

    def gone(self) -> None:
        """Note that the server is waited for no longer: there is no crowd to make room for."""


class FixedLimit:
    """As many as the caller names; fewer while the server refuses some."""

    def __init__(self, most: int) -> None:
        self.most, self.value = most, float(most)

    def answered(self, now: float, *, starved: bool) -> None:
        """Make a little more room."""
        self.value = min(self.most, self.value + 1 / self.value)

    def refused(self, inside: int) -> None:
        """Make the room smaller."""
        self.value = max(1.0, inside * _REFUSED)

    def alone(self, *, full: bool) -> None:
        """Send one call at a time until one is answered."""
        self.value = 1.0

    def gone(self) -> None:
        """Let all fail at once."""
        self.value = float(self.most)


class SearchedLimit:
    """The smallest number in flight with nearly the most answers per second, found while the run goes on.

    The number is doubled while that gives a tenth more answers per second. After that it is held, and now
    and then a quarter more or a fifth less are tried between two measurements of the number itself: more is
    kept for 5 % more answers, less for at most 2 % fewer. What is refused shrinks it to nine tenths of what
    the server admitted. A rate is measured over at least twice as many answers as calls are in flight, and a
    quarter of a second, and does not count while the caller has too few products or reads no answers.
    """

    most = MOST

    def __init__(self) -> None:
        self.value = float(FIRST)
        self._level = self.value
        self._search = self._grow(self.value)
        self._measure(next(self._search))

    def answered(self, now: float, *, starved: bool) -> None:
        """Count an answer; a rate that is measured decides on the next number."""
        if self.value < self._level:
            # The server is back: twice as many for each round of answers.
            self.value = min(self._level, self.value + 1)
            return
        if self._skip:
            self._skip -= 1
            self._start = now
            return
        self._answers += 1
        self._starved += starved
        if self._answers < max(_LEAST_ANSWERS, 2 * self.value) or now - self._start < _LEAST_S:
            return
        rate = self._answers / (now - self._start)
        is_callers = self._starved > _STARVED * self._answers
        self._measure(self._level if is_callers else self._search.send(rate))

    def refused(self, inside: int) -> None:
        """Go back to fewer than the server admitted."""
        self._hold_at(max(1.0, inside * _REFUSED_SEARCH))

    def alone(self, *, full: bool) -> None:
        """Send one call at a time until one is answered; where the server is full, search from there."""
        if full:
            self._search = self._grow(1.0)
            self._measure(next(self._search))
        self.value = 1.0

    def gone(self) -> None:
        """Let them fail as they come."""
        self.value = max(self._level, float(FIRST))

    def _hold_at(self, level: float) -> None:
        self._search = self._climb(level, hold=2)
        self._measure(next(self._search))

    def _measure(self, level: float) -> None:
        """Measure the rate at a level, once the calls of the one before are answered."""
        self._skip = int(max(self.value, level))
        self.value = self._level = level
        self._answers = self._starved = 0
        self._start = 0.0

    def _grow(self, level: float) -> Generator[float, float, None]:
        """Yield levels, and receive their rates: double while it is worth it."""
        rate = yield level
        while level < MOST:
            doubled = min(2 * level, MOST)
            more = yield doubled
            if more < _DOUBLED * rate:
                break
            level, rate = doubled, more
        yield from self._climb(level)

    def _climb(self, level: float, hold: int = 1) -> Generator[float, float, None]:
        """Yield levels, and receive their rates: try a step up and a step down in turn."""
        upwards = True
        while True:
            for _ in range(hold):
                before = yield level
            step = min(MOST, max(level * _STEP, level + 1)) if upwards else max(1.0, level / _STEP)
            tried = yield step
            after = yield level
            if tried >= (_BETTER if upwards else _AS_GOOD) * (before + after) / 2 and step != level:
                level, hold = step, 1
            else:
                upwards, hold = not upwards, min(_LONGEST_HOLD, 2 * hold)


def limit_of(concurrency: Concurrency) -> Limit:
    """The limit that a caller wants.

    Raises:
        InvalidRequest: ``concurrency`` is neither a whole number above 0 nor ``"auto"``.
    """
    if concurrency == AUTO:
        return SearchedLimit()
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(f"concurrency: {concurrency!r}; give a whole number above 0, or {AUTO!r}")
    return FixedLimit(concurrency)
