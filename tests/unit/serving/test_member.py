# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from quorum.runtimes.base import Done, Generated, Question
from quorum.serving.packing import Admitted, unpack_votes
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum_contract import Status

pytestmark = pytest.mark.usefixtures("serving")


def deadlines() -> Any:
    from quorum.serving.member import Deadlines

    return Deadlines()


def once(sender: Any) -> Any:
    from quorum.serving.member import _Reply

    reply = _Reply()
    assert reply.now_or_later(Request(sender)) is None
    return reply


class Request:
    """Gives its sender once."""

    def __init__(self, sender: Any) -> None:
        self._senders = [sender]

    def get_response_sender(self) -> Any:
        return self._senders.pop()


class Sender:
    """Keeps what was sent; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[dict[str, Any]] = []
        self._failures = failures

    def send(self, response: Any, flags: int) -> None:
        assert flags == 1
        if self._failures:
            self._failures -= 1
            raise OSError("gone")
        self.sent.append({t.name: t.array.ravel().tolist() for t in response.output_tensors})


def test_calls_come_when_due_and_in_order_of_their_deadlines() -> None:
    called: list[tuple[str, int]] = []
    done = threading.Event()
    now = time.monotonic_ns()
    timer = deadlines()
    for name, milliseconds in (("late", 60), ("past", -1), ("early", 20), ("last", 80)):
        timer.add(now + milliseconds * 10**6, lambda name=name: called.append((name, time.monotonic_ns())))
    timer.add(now + 90 * 10**6, done.set)
    assert done.wait(30)
    assert [name for name, _ in called] == ["past", "early", "late", "last"]
    assert all(at >= now + due * 10**6 for (_, at), due in zip(called, (-1, 20, 60, 80), strict=True))
    timer.close()


def test_a_nearer_deadline_is_not_kept_waiting_by_a_farther_one() -> None:
    timer = deadlines()
    came = threading.Event()
    timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda: None)
    timer.add(time.monotonic_ns() + 10**6, came.set)
    assert came.wait(30)
    timer.close()


def test_what_still_waits_at_the_end_is_called_at_once() -> None:
    timer = deadlines()
    called: list[int] = []
    for i in range(3):
        timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda i=i: called.append(i))
    timer.close()
    assert sorted(called) == [0, 1, 2]


def test_equal_deadlines_need_no_order() -> None:
    timer = deadlines()
    called: list[int] = []
    due = time.monotonic_ns() + 10**7
    for i in range(5):
        timer.add(due, lambda i=i: called.append(i))
    timer.close()
    assert sorted(called) == list(range(5))


def test_only_the_first_answer_is_sent() -> None:
    from quorum.tasks.parse import Vote, abstain

    sender = Sender()
    answer = once(sender)
    barrier = threading.Barrier(8)

    def race(i: int) -> None:
        barrier.wait()
        answer([Vote(f"v{i}", Status.ANSWERED)] if i % 2 else abstain(Status.TIMEOUT, 1))

    threads = [threading.Thread(target=race, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sender.sent) == 1


def test_votes_that_are_there_at_once_need_no_sender() -> None:
    from quorum.serving.member import _Reply
    from quorum.tasks.parse import Vote, abstain

    reply = _Reply()
    reply([Vote("red", Status.ANSWERED)])
    reply(abstain(Status.TIMEOUT, 1))
    request = Request(Sender())
    (tensor,) = reply.now_or_later(request).output_tensors
    assert unpack_votes(tensor.array.tobytes()) == [("red", 0, None)]
    reply(abstain(Status.TIMEOUT, 1))
    assert len(request._senders) == 1
    assert request.get_response_sender().sent == []


def test_several_members_answer_when_the_last_of_them_has() -> None:
    from quorum.serving.member import _Reply
    from quorum.tasks.parse import Vote

    sender = Sender()
    reply = _Reply(("a_", "b_"))
    reply([Vote("red", Status.ANSWERED)], position=1)
    assert reply.now_or_later(Request(sender)) is None
    assert sender.sent == []
    reply([Vote("blue", Status.ANSWERED)], position=0)
    (sent,) = sender.sent
    assert {name: unpack_votes(bytes(data)) for name, data in sent.items()} == {
        "a_VOTES": [("blue", 0, None)],
        "b_VOTES": [("red", 0, None)],
    }


def test_what_cannot_be_sent_becomes_an_abstention() -> None:
    from quorum.tasks.parse import Vote

    sender = Sender()
    once(sender)([Vote("\ud800", Status.ANSWERED), Vote("red", Status.ANSWERED)])
    assert [unpack_votes(bytes(one["VOTES"])) for one in sender.sent] == [[("", int(Status.ERROR), None)] * 2]


def test_an_answer_that_could_not_be_sent_becomes_an_abstention() -> None:
    from quorum.tasks.parse import Vote

    sender = Sender(failures=1)
    once(sender)([Vote("red", Status.ANSWERED)])
    assert [unpack_votes(bytes(one["VOTES"])) for one in sender.sent] == [[("", int(Status.ERROR), None)]]


def test_a_caller_who_is_gone_harms_nobody() -> None:
    from quorum.tasks.parse import abstain

    sender = Sender(failures=2)
    once(sender)(abstain(Status.TIMEOUT, 1))
    assert sender.sent == []


def test_the_counter_keeps_to_its_limit() -> None:
    from quorum.serving.member import _Counter

    counter = _Counter()
    first, second, third = (counter.enter(2) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    first()
    first()
    assert counter.enter(2) is not None
    assert counter.enter(2) is None


def test_what_is_cancelled_is_never_called_and_wakes_nobody() -> None:
    timer = deadlines()
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


def test_questions_that_are_answered_in_time_wake_no_thread() -> None:
    timer = deadlines()
    woken: list[int] = []
    notify = timer._wake.notify
    timer.add(time.monotonic_ns() + 3_600 * 10**9, lambda: None)()
    timer._wake.notify = lambda: (woken.append(1), notify())
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
    timer = deadlines()
    called: list[str] = []
    far = time.monotonic_ns() + 10**13
    timer.add(far, lambda: called.append("waiting"))
    timer.add(far, lambda: called.append("cancelled"))()
    timer.close()
    assert called == ["waiting"]


def test_votes_have_the_scores_of_their_tokens() -> None:
    from quorum.serving.member import _Member

    settings = {"name": "m", "prompt": "bare", "timeout_s": 9, "reserve_ms": 0, "max_in_flight": 9}

    class Runtime:
        def submit(self, question: Question, done: Done) -> None:
            done(Generated('{"a":"x","b":"y"}', [6, 8, 14, 16, 17], [-1.0, -0.1, -2.0, -0.25, -3.0]))

        def close(self) -> None:
            pass

    timer, sent = deadlines(), list[Sequence[Vote]]()
    member = _Member(settings, Catalogue({}), Runtime(), timer)
    member.ask(Admitted("text", "", ("b", "c", "a"), time.monotonic_ns() + 10**10), sent.append)
    timer.close()
    assert sent == [[("y", 0, -0.25), ("", Status.UNPARSABLE, None), ("x", 0, -0.10000000149011612)]]


def test_an_answer_whose_scores_fail_still_votes() -> None:
    from quorum.serving.member import _Member

    settings = {"name": "m", "prompt": "bare", "timeout_s": 9, "reserve_ms": 0, "max_in_flight": 9}

    class Runtime:
        def submit(self, question: Question, done: Done) -> None:
            done(Generated('{"a":"x"}', [6, 8, 9], cast("list[float]", [None, "?", object()])))

        def close(self) -> None:
            pass

    timer, sent = deadlines(), list[Sequence[Vote]]()
    member = _Member(settings, Catalogue({}), Runtime(), timer)
    member.ask(Admitted("text", "", ("a",), time.monotonic_ns() + 10**10), sent.append)
    timer.close()
    assert sent == [[("x", 0, None)]]


def test_votes_of_a_runtime_without_an_llm_are_sent_as_they_are() -> None:
    from quorum.serving.member import _Member

    settings = {"name": "m", "prompt": "bare", "timeout_s": 9, "reserve_ms": 0, "max_in_flight": 9}
    votes = [Vote("X", Status.ANSWERED, -0.5), Vote("", Status.NOT_FOUND)]

    class Runtime:
        def submit(self, question: Question, done: Done) -> None:
            done(votes)

        def close(self) -> None:
            pass

    timer, sent = deadlines(), list[Sequence[Vote]]()
    member = _Member(settings, Catalogue({}), Runtime(), timer)
    member.ask(Admitted("text", "", ("a", "b"), time.monotonic_ns() + 10**10), sent.append)
    timer.close()
    assert sent == [votes]
