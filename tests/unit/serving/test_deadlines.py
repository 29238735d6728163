# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import pytest

from quorum.serving.deadlines import Deadlines


def test_calls_come_when_due_and_in_order_of_their_deadlines() -> None:
    called: list[tuple[str, int]] = []
    done = threading.Event()
    now = time.monotonic_ns()
    timer = Deadlines()
    for name, milliseconds in (("late", 60), ("past", -1), ("early", 20), ("last", 80)):
        timer.add(now + milliseconds * 10**6, lambda name=name: called.append((name, time.monotonic_ns())))
    timer.add(now + 90 * 10**6, done.set)
    assert done.wait(30)
    assert [name for name, _ in called] == ["past", "early", "late", "last"]
    assert all(at >= now + due * 10**6 for (_, at), due in zip(called, (-1, 20, 60, 80), strict=True))
    timer.close()


def test_a_nearer_deadline_is_not_kept_waiting_by_a_farther_one() -> None:
    timer = Deadlines()
    came = threading.Event()
    timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda: None)
    timer.add(time.monotonic_ns() + 10**6, came.set)
    assert came.wait(30)
    timer.close()


def test_what_still_waits_at_the_end_is_called_at_once() -> None:
    timer = Deadlines()
    called: list[int] = []
    for i in range(3):
        timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda i=i: called.append(i))
    timer.close()
    assert sorted(called) == [0, 1, 2]


def test_equal_deadlines_need_no_order() -> None:
    timer = Deadlines()
    called: list[int] = []
    due = time.monotonic_ns() + 10**7
    for i in range(5):
        timer.add(due, lambda i=i: called.append(i))
    timer.close()
    assert sorted(called) == list(range(5))


def test_what_is_cancelled_is_never_called_and_wakes_nobody() -> None:
    timer = Deadlines()
    now = time.monotonic_ns()
    called: list[str] = []
    last = threading.Event()
    cancels = [timer.add(now + (20 + i) * 10**6, lambda: called.append("cancelled")) for i in range(30)]
    for cancel in cancels:
        cancel()
        cancel()
    timer.add(now + 80 * 10**6, last.set)
    assert last.wait(30)
    assert called == []
    assert timer._heap == []
    timer.close()


def test_questions_that_are_answered_in_time_wake_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Deadlines()
    woken: list[int] = []
    notify = timer._wake.notify
    timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda: None)()

    def note() -> None:
        woken.append(1)
        notify()

    monkeypatch.setattr(timer._wake, "notify", note)
    for _ in range(200):
        timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda: None)()
    assert woken == []
    assert len(timer._heap) <= 1
    near = threading.Event()
    timer.add(time.monotonic_ns() + 10**6, near.set)
    assert woken == [1]
    assert near.wait(30)
    timer.close()


def test_closing_calls_what_waits_but_not_what_was_cancelled() -> None:
    timer = Deadlines()
    called: list[str] = []
    far = time.monotonic_ns() + 10**13
    timer.add(far, lambda: called.append("waiting"))
    timer.add(far, lambda: called.append("cancelled"))()
    timer.close()
    assert called == ["waiting"]


def test_a_call_that_fails_costs_no_later_one(caplog: pytest.LogCaptureFixture) -> None:
    timer = Deadlines()
    now, came = time.monotonic_ns(), threading.Event()
    timer.add(now, lambda: [][0])
    timer.add(now + 10**6, came.set)
    assert came.wait(30)
    timer.close()
    assert "a call at a deadline failed" in caplog.text
