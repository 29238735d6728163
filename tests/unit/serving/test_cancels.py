# SPDX-License-Identifier: Apache-2.0
"""Members hear of cancelled tickets, at once and only of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorum.serving import cancels as cancels_module
from quorum.serving.admission import Admission
from quorum.serving.cancels import Cancels

FAR = time.monotonic_ns() + 3_600 * 10**9


class Added:
    """Takes the place of the deadlines, and notes which were taken back."""

    def __init__(self) -> None:
        self.taken_back = 0

    def __call__(self, deadline_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        assert deadline_ns == FAR

        def take_back() -> None:
            self.taken_back += 1

        return take_back


@pytest.fixture
def gate(tmp_path: Path) -> Admission:
    return Admission(tmp_path / "tickets")


@pytest.fixture
def cancels(gate: Admission, tmp_path: Path) -> Iterator[Cancels]:
    made = Cancels(Admission(tmp_path / "tickets"))
    yield made
    made.close()
    assert not made._thread.is_alive()


def claim(gate: Admission, name: str) -> int:
    return gate.claim(99, time.monotonic_ns(), FAR, 1, name) or 0


def cancel(gate: Admission, name: str) -> None:
    assert gate.cancel(name, time.monotonic_ns()) == 1


def test_a_cancelled_ticket_makes_its_calls_and_no_others(gate: Admission, cancels: Cancels) -> None:
    mine, other = claim(gate, "mine"), claim(gate, "other")
    came, twin, wrong = threading.Event(), threading.Event(), threading.Event()
    for ticket, event in ((mine, came), (mine, twin), (other, wrong)):
        cancels.hurrying(ticket, Added())(FAR, event.set)
    cancel(gate, "mine")
    assert came.wait(30)
    assert twin.wait(30)
    assert not wrong.is_set()
    cancel(gate, "other")
    assert wrong.wait(30)
    assert not cancels._pending


def test_one_that_was_cancelled_before_is_called_at_once(gate: Admission, cancels: Cancels) -> None:
    mine = claim(gate, "mine")
    cancel(gate, "mine")
    made: list[int] = []
    cancels.hurrying(mine, Added())(FAR, lambda: made.append(1))
    assert made == [1]


def test_an_answered_question_is_forgotten(gate: Admission, cancels: Cancels) -> None:
    mine, other = claim(gate, "mine"), claim(gate, "other")
    added, made, seen = Added(), list[int](), threading.Event()
    take_back = cancels.hurrying(mine, added)(FAR, lambda: made.append(1))
    cancels.hurrying(other, added)(FAR, seen.set)
    take_back()
    take_back()
    assert added.taken_back == 2
    cancel(gate, "mine")
    cancel(gate, "other")
    assert seen.wait(30)
    assert made == []
    assert not cancels._pending


def test_a_call_that_fails_stops_neither_the_thread_nor_the_next(gate: Admission, cancels: Cancels) -> None:
    tickets = [claim(gate, name) for name in "abc"]
    came = [threading.Event() for _ in tickets]
    for ticket, event in zip(tickets, came, strict=True):

        def call(event: threading.Event = event) -> None:
            event.set()
            raise RuntimeError("broken")

        cancels.hurrying(ticket, Added())(FAR, call)
    for name, event in zip("abc", came, strict=True):
        cancel(gate, name)
        assert event.wait(30)


def test_without_questions_the_thread_sleeps_until_the_next(
    gate: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancels_module, "_LINGER_LOOKS", 0)
    cancels = Cancels(gate)
    for name in ("first", "second"):
        end = time.monotonic() + 30
        while not cancels._asleep:
            assert time.monotonic() < end
            time.sleep(0.005)
        ticket, came = claim(gate, name), threading.Event()
        cancels.hurrying(ticket, Added())(FAR, came.set)
        cancel(gate, name)
        assert came.wait(30)
    cancels.close()
