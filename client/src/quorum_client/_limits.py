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

FIRST = 8
"""Calls in flight at the start of a search."""
MOST = 256
"""The most that a search tries."""
_REFUSED_SEARCH = 0.9
_STEP = 1.25
# Where the rate grows as n / (n + h), as in a queue, all three end at 9 h or more in flight, nine tenths of
# the highest rate.
_DOUBLED, _BETTER, _AS_GOOD = 1.05, 1.02, 0.98
_LONGEST_HOLD = 8
# A short measurement is enough to see what doubling gives, not what a small step does.
_LEAST_ANSWERS, _GROWING_S, _CLIMBING_S = 8, 0.25, 1.0
_STARVED = 0.2
_SHARE_OF_DEADLINE = 0.25


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

    def refused(self, inside: int, *, full: bool) -> None:
        """Note a refusal that leaves so many in flight: the server is full or late, or else away."""

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

    def refused(self, inside: int, *, full: bool) -> None:
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

    The number is doubled while that gives 5 % more answers per second. After that it is held, and now and
    then a quarter more or a fifth less are tried between two measurements of the number itself: more is kept
    for 2 % more answers, less for at most 2 % fewer. What is refused shrinks it to nine tenths of what the
    server admitted. A rate is measured over at least twice as many answers as calls are in flight, and a
    quarter of a second, or a second for small steps; it does not count while the caller has too few products
    or reads no answers. By Little's law a call takes as long as calls in flight are answered in: no more are
    tried than would take a quarter of the deadline.

    Args:
        timeout_s: Deadline of a call, seconds.
    """

    most = MOST

    def __init__(self, timeout_s: float) -> None:
        self.value = float(FIRST)
        self._patience_s = _SHARE_OF_DEADLINE * timeout_s
        self._highest = float(MOST)
        self._level = self.value
        self._least_s = _GROWING_S
        self._search = self._grow(self.value)
        self._measure(next(self._search))

    def answered(self, now: float, *, starved: bool) -> None:
        """Count an answer; a rate that is measured decides on the next number."""
        if self.value < self._level:
            # The server is back: twice as many for each round of answers, and a new measurement.
            self.value = min(self._level, self.value + 1)
            if self.value == self._level:
                self._measure(self._level)
            return
        if self._skip:
            self._skip -= 1
            self._start = now
            return
        self._answers += 1
        self._starved += starved
        if self._answers < max(_LEAST_ANSWERS, 2 * self.value) or now - self._start < self._least_s:
            return
        rate = self._answers / (now - self._start)
        is_callers = self._starved > _STARVED * self._answers
        if is_callers:
            self._measure(self._level)
            return
        self._highest = min(float(MOST), max(1.0, rate * self._patience_s))
        if self._level > self._highest:
            self._hold_at(self._highest)
        else:
            self._measure(self._search.send(rate))

    def refused(self, inside: int, *, full: bool) -> None:
        """Go back to fewer than the server admitted; for a server that is away, until it is back."""
        if full:
            self._hold_at(max(1.0, inside * _REFUSED_SEARCH))
        else:
            self.value = max(1.0, inside * _REFUSED)

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
        """Yield levels, and receive their rates: double until that was worth nothing twice."""
        self._least_s = _GROWING_S
        rate, in_vain = (yield level), 0
        while level < self._highest and in_vain < 2:
            doubled = min(2 * level, self._highest)
            more = yield doubled
            if more >= _DOUBLED * rate:
                level, rate, in_vain = doubled, more, 0
            else:
                rate, in_vain = (yield level), in_vain + 1
        yield from self._climb(level)

    def _climb(self, level: float, hold: int = 1) -> Generator[float, float, None]:
        """Yield levels, and receive their rates: try a step up and a step down in turn."""
        self._least_s, upwards = _CLIMBING_S, True
        while True:
            for _ in range(hold):
                before = yield level
            step = max(1.0, level / _STEP)
            if upwards:
                step = min(self._highest, max(level * _STEP, level + 1))
            tried = yield step
            after = yield level
            needed = (_BETTER if upwards else _AS_GOOD) * (before + after) / 2
            if tried >= needed and step != level:
                level, hold = step, 1
            else:
                upwards, hold = not upwards, min(_LONGEST_HOLD, 2 * hold)


def limit_of(concurrency: Concurrency, timeout_s: float) -> Limit:
    """The limit that a caller wants, for calls with that deadline in seconds.

    Raises:
        InvalidRequest: ``concurrency`` is neither a whole number above 0 nor ``"auto"``.
    """
    if concurrency == AUTO:
        return SearchedLimit(timeout_s)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(f"concurrency: {concurrency!r}; give a whole number above 0, or {AUTO!r}")
    return FixedLimit(concurrency)
