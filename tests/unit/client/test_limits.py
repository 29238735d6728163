# SPDX-License-Identifier: Apache-2.0
"""The search for the calls in flight that serve best, against simulated servers on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from quorum_client import DeadlineExceeded, Overloaded, Unreachable
from quorum_client._limits import FIRST, MOST, Concurrency
from quorum_client._room import AS_THEY_COME, Room

Rate = Callable[[int], float]
"""Answers per second of a server that works on so many calls."""

SERVERS: dict[str, Rate] = {
    "one at a time": lambda n: 2.0,
    "four slots": lambda n: min(n, 4) / 1.0,
    "two hundred slots": lambda n: min(n, 200) / 0.5,
    "batches": lambda n: 1000 * n / (n + 12),
    "thrashes": lambda n: 10 * min(n, 24) / (1 + 0.05 * max(0, n - 24)),
}


class Ran(NamedTuple):
    """Answers per second of a third of the rows near the end, what was in flight at its end, refusals."""

    rate: float
    level: float
    refusals: int


class Simulation:
    """A run of so many rows; the times between answers vary by ``spread``, standard deviation over mean."""

    def __init__(
        self, rate: Rate, concurrency: Concurrency, rows: int, *, admits: int = 10**9, spread: float
    ) -> None:
        self.now_s, self.rate, self.admits = 0.0, rate, admits
        self.random, self.spread = random.Random(1), spread
        self.room = Room(concurrency, 60.0, now=lambda: self.now_s)
        self.rows = iter(range(rows))
        self.sent: list[int] = []
        self.inside: list[int] = []
        self.times_s: list[float] = []
        self.open = self.refusals = 0

    def read(self) -> None:
        while self.open < self.room.window(AS_THEY_COME):
            row = next(self.rows, None)
            if row is None:
                return
            self.open += 1
            self.room.ask(row, partial(self.sent.append, row))

    def admit(self) -> None:
        while self.sent:
            row = self.sent.pop()
            if len(self.inside) < self.admits:
                self.inside.append(row)
                continue
            self.refusals += 1
            self.now_s += self.room.refused(row, partial(self.sent.append, row), Overloaded("full")) or 0.0

    def run(self) -> Ran:
        self.read()
        self.admit()
        shape = self.spread**-2
        while self.inside:
            self.now_s += self.random.gammavariate(shape, 1 / shape) / self.rate(len(self.inside))
            self.inside.pop(self.random.randrange(len(self.inside)))
            self.times_s.append(self.now_s)
            self.open -= 1
            self.room.leave(answered=True)
            self.read()
            self.admit()
        third = len(self.times_s) // 3
        # The last calls run dry.
        taken_s = self.times_s[-MOST] - self.times_s[-MOST - third]
        return Ran(third / taken_s, self.room._limit.value, self.refusals)


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("name", SERVERS)
def test_the_search_comes_near_the_best_number(name: str, spread: float) -> None:
    rate = SERVERS[name]
    best = max(rate(number) for number in range(1, MOST + 1))
    assert Simulation(rate, "auto", 12_000, spread=spread).run().rate >= 0.9 * best


def test_a_number_that_is_too_high_is_not_kept() -> None:
    rate = SERVERS["thrashes"]
    assert Simulation(rate, "auto", 12_000, spread=0.3).run().level < 40
    assert Simulation(rate, 200, 3000, spread=0.3).run().rate < 0.5 * rate(24)


def test_what_a_server_does_not_admit_is_rarely_tried() -> None:
    found = Simulation(SERVERS["batches"], "auto", 4000, admits=20, spread=0.3).run()
    assert found.rate > 0.9 * SERVERS["batches"](20)
    assert found.refusals < 0.04 * 4000


def test_no_more_are_in_flight_than_are_answered_in_a_quarter_of_the_deadline() -> None:
    """Where each call more is worth something, only the time that they take ends the search."""
    found = Simulation(lambda n: 2 * n**0.3, "auto", 2000, spread=0.3).run()
    assert found.level / found.rate < 30 / 4 * 1.3


def test_a_server_that_was_away_is_filled_again_soon() -> None:
    room, sent = Room("auto", 60.0), list[int]()
    for number in range(3 * FIRST):
        room.ask(number, partial(sent.append, number))
    assert len(sent) == FIRST
    for number in range(FIRST - 1):
        assert room.refused(number, lambda: None, Unreachable("gone")) is None
    assert room.refused(FIRST - 1, lambda: None, Unreachable("gone"))
    assert room._limit.value == 1
    for _ in range(FIRST // 2):
        room.leave(answered=True)
    assert room._limit.value > FIRST // 2


def test_the_time_that_a_server_was_away_is_in_no_rate() -> None:
    now_s, sent = 0.0, list[int]()
    room = Room("auto", 60.0, now=lambda: now_s)
    for number in range(20_000):
        room.ask(number, partial(sent.append, number))

    def answer(calls: int) -> None:
        nonlocal now_s
        for _ in range(calls):
            # Each call takes 0.1 s, however many there are.
            now_s += 0.1 / room._limit.value
            room.leave(answered=True)

    answer(3 * FIRST)
    for number in range(FIRST):
        room.refused(number, lambda: None, Unreachable("gone"))
    now_s += 60
    answer(200)
    assert room._limit.value > FIRST, "it goes on doubling"


def test_calls_that_are_late_make_the_room_smaller() -> None:
    room = Room("auto", 60.0)
    for number in range(FIRST):
        room.ask(number, lambda: None)
    room.leave(answered=False, error=DeadlineExceeded("late"))
    assert room._limit.value < FIRST


def test_the_rate_of_a_caller_who_has_few_products_decides_nothing() -> None:
    now_s = 0.0
    room = Room("auto", 60.0, now=lambda: now_s)
    for number in range(500):
        # One at a time, as a caller who waits for each answer sends them.
        room.ask(number, lambda: None)
        now_s += 0.01
        room.leave(answered=True)
    assert room._limit.value == FIRST
