# SPDX-License-Identifier: Apache-2.0
"""The calls in flight of a bulk run, without a server: how many there are, and who is next."""

from __future__ import annotations

import itertools
import time
from functools import partial

from quorum_client import Disconnected, Overloaded, Unavailable, Unreachable
from quorum_client._room import Room


class Run:
    """A run of calls against a server that admits ``free`` of them at a time."""

    def __init__(self, most: int, free: int) -> None:
        self.room, self.free = Room(most), free
        self.sent: list[int] = []
        self.inside: list[int] = []
        self.pauses: list[float] = []
        self.refusals = 0

    def ask(self, *numbers: int) -> None:
        for number in numbers:
            self.room.ask(number, partial(self.sent.append, number))

    def serve(self) -> None:
        """The server takes what was sent; what it refuses asks again."""
        while self.sent:
            number = self.sent.pop(0)
            if len(self.inside) < self.free:
                self.inside.append(number)
                continue
            self.refusals += 1
            pause_s = self.room.refused(number, partial(self.sent.append, number), Overloaded("full"))
            if pause_s is not None:
                self.pauses.append(pause_s)
                self.sent.append(number)
                return

    def answer(self) -> int:
        number = self.inside.pop(0)
        self.room.leave(answered=True)
        return number


def test_as_many_are_sent_as_the_caller_wants_the_oldest_first() -> None:
    run = Run(most=3, free=3)
    run.ask(4, 2, 7, 1, 0)
    assert run.sent == [4, 2, 7]
    run.serve()
    run.answer()
    assert run.sent == [0]


def test_no_call_is_lost_and_few_are_refused() -> None:
    run, rows = Run(most=40, free=4), 1000
    run.ask(*range(rows))
    run.serve()
    answered = []
    while run.inside:
        answered.append(run.answer())
        run.serve()
    assert sorted(answered) == list(range(rows))
    assert run.refusals < rows, "each refusal costs an answer at most"
    assert not run.pauses, "while calls are answered no clock is needed"
    lag = [at - number for at, number in enumerate(answered)]
    assert max(lag) <= 40, "none waits much longer than its turn"


def test_a_run_without_a_call_in_flight_waits_longer_each_time_up_to_a_limit() -> None:
    run = Run(most=2, free=0)
    run.ask(0)
    for _ in range(12):
        run.serve()
    assert run.pauses[0] < 0.2
    assert all(b > a for a, b in itertools.pairwise(run.pauses[:4]))
    assert max(run.pauses) < 3
    run.free = 1
    run.serve()
    assert run.answer() == 0
    run.ask(1)
    run.free = 0
    run.serve()
    assert run.pauses[-1] < 0.2, "an answer resets the pauses"


def test_the_room_grows_back_after_the_crowd() -> None:
    run = Run(most=8, free=1)
    run.ask(*range(500))
    run.serve()
    for _ in range(20):
        run.answer()
        run.serve()
    run.free = 8
    for _ in range(60):
        run.answer()
        run.serve()
    assert len(run.inside) == 8


def test_a_failed_call_gives_its_place_to_the_next() -> None:
    run = Run(most=1, free=1)
    run.ask(0, 1)
    run.serve()
    run.inside.clear()
    run.room.leave(answered=False)
    assert run.sent == [1]


def test_the_end_of_a_run_starts_all_that_wait() -> None:
    run = Run(most=1, free=1)
    run.ask(0, 1, 2)
    run.room.close()
    assert run.sent == [0, 1, 2]


def test_a_call_that_comes_after_the_end_of_the_run_waits_for_nothing() -> None:
    run = Run(most=1, free=1)
    run.ask(0, 1)
    run.room.close()
    assert run.sent == [0, 1]
    run.ask(2)
    assert run.sent == [0, 1, 2]


def test_a_server_that_is_away_is_waited_for_until_the_time_is_over() -> None:
    room = Room(4, away_s=0.05)
    assert room.postpones(Unreachable("gone"))
    time.sleep(0.06)
    assert room.postpones(Overloaded("full")), "a full server is there, and is waited for without an end"
    assert room.postpones(Unavailable("not ready")), "the refusal ended the time of the one before"
    time.sleep(0.06)
    assert not room.postpones(Unreachable("gone"))
    room.leave(answered=False)
    assert not room.postpones(Unreachable("gone")), "a failure is no sign of life"
    room.leave(answered=True)
    assert room.postpones(Unreachable("gone"))


def test_what_members_may_have_seen_is_never_sent_again() -> None:
    assert not Room(4, away_s=60).postpones(Disconnected("broke off"))
    assert not Room(4, away_s=60).postpones(ValueError("other"))
    assert not Room(4).postpones(Overloaded("full")), "a run that waits for nothing"


def test_a_wait_and_its_end_are_reported_only_of_a_run_without_a_call_in_flight() -> None:
    seen: list[Unavailable | None] = []
    room, gone = Room(2, 60.0, seen.append), Unreachable("gone")
    for number in (0, 1):
        room.ask(number, lambda: None)
    assert room.refused(0, lambda: None, gone) is None
    assert seen == []
    assert room.refused(1, lambda: None, gone)
    room.leave(answered=True)
    room.leave(answered=True)
    assert seen == [gone, None]


def test_a_connection_that_broke_takes_only_the_calls_that_were_in_it() -> None:
    room, sent = Room(8, away_s=60.0), list[int]()
    for number in range(30):
        room.ask(number, partial(sent.append, number))
    for _ in range(8):
        room.leave(answered=False, error=Disconnected("broke off"))
    assert len(sent) == 9, "one looks whether the server is there"
