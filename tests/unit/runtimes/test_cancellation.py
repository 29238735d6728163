# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from functools import partial

from quorum.runtimes.cancellation import Cancellation


def test_calls_are_made_once_whenever_they_are_registered() -> None:
    cancellation, made = Cancellation(), list[str]()
    cancellation.when_cancelled(lambda: made.append("early"))
    assert (cancellation.is_cancelled, made) == (False, [])
    cancellation.cancel()
    cancellation.when_cancelled(lambda: made.append("late"))
    cancellation.cancel()
    assert (cancellation.is_cancelled, made) == (True, ["early", "late"])


def test_a_call_that_fails_keeps_no_other_from_being_made() -> None:
    cancellation, made = Cancellation(), list[int]()
    cancellation.when_cancelled(lambda: made.append(1))
    cancellation.when_cancelled(lambda: made.append(1 // 0))
    cancellation.when_cancelled(lambda: made.append(3))
    cancellation.cancel()
    assert sorted(made) == [1, 3]


def test_what_was_disarmed_is_not_called() -> None:
    cancellation, made = Cancellation(), list[int]()
    cancellation.when_cancelled(lambda: made.append(1))
    cancellation.disarm()
    cancellation.cancel()
    assert made == []


def test_no_call_is_lost_between_two_threads() -> None:
    for _ in range(500):
        cancellation, made = Cancellation(), list[int]()
        start = threading.Barrier(2)

        def cancel(start: threading.Barrier = start, cancellation: Cancellation = cancellation) -> None:
            start.wait()
            cancellation.cancel()

        other = threading.Thread(target=cancel)
        other.start()
        start.wait()
        for number in range(20):
            cancellation.when_cancelled(partial(made.append, number))
        other.join()
        assert sorted(made) == list(range(20))
