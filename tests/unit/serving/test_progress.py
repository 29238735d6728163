# SPDX-License-Identifier: Apache-2.0
"""Which members have answered, in shared memory, and the grace that the others then get."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorum.runtimes.base import Done, Question
from quorum.serving import progress
from quorum.serving.admission import CAPACITY, Admission
from quorum.serving.answering import Answering, packed
from quorum.serving.cancels import Cancels
from quorum.serving.deadlines import Deadlines
from quorum.serving.packing import Admitted, pack_question, unpack_votes
from quorum.serving.progress import Grace, Progress
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote, abstain
from quorum_contract import Status

TICKET, MS = (77 << 16) | 5, 10**6
YES = [Vote("red", Status.ANSWERED), Vote("n/a", Status.ANSWERED)]


class Clock:
    """Time that passes when the test says so, and the calls that are due then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10**12
        self.waiting: list[tuple[int, int, Callable[[], None]]] = []
        self.made = 0
        monkeypatch.setattr(progress.time, "monotonic_ns", lambda: self.now)

    def add(self, deadline_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        self.made += 1
        entry = (deadline_ns, self.made, call)
        self.waiting.append(entry)
        return lambda: self.waiting.remove(entry) if entry in self.waiting else None

    def forward(self, ms: float) -> None:
        end = self.now + int(ms * MS)
        while due := sorted(entry for entry in self.waiting if entry[0] <= end):
            self.waiting.remove(due[0])
            self.now = due[0][0]
            due[0][2]()
        self.now = end


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def grace(clock: Clock, tmp_path: Path) -> Grace:
    settings = {"grace_ms": 100, "min_members": 2, "voters": ["a", "b", "c", "d"]}
    return Grace(settings, clock, tmp_path / "answered")


def watched(grace: Grace, clock: Clock, deadline_ms: float = 1_000) -> tuple[list[float], Any]:
    """When the call of a question came, in milliseconds from now, and the function that cancels it."""
    came: list[float] = []
    start = clock.now
    cancel = grace.hurrying(TICKET)(
        start + int(deadline_ms * MS), lambda: came.append((clock.now - start) / MS)
    )
    return came, cancel


def answer(grace: Grace, member: str, votes: list[Vote] = YES, ticket: int = TICKET) -> None:
    grace.reporting(lambda _: None, ticket, member)(packed(votes))


@pytest.mark.parametrize("second", [0.5, 30.0, 99.5, 100.5, 163.0, 450.0, 899.0])
def test_the_call_comes_a_grace_after_the_answer_that_is_enough(
    grace: Grace, clock: Clock, second: float
) -> None:
    came, _ = watched(grace, clock)
    clock.forward(0.25)
    answer(grace, "a")
    clock.forward(second - 0.25)
    answer(grace, "b")
    clock.forward(2_000)
    assert came == [second + 100]
    assert not clock.waiting


def test_too_few_answers_shorten_nothing(grace: Grace, clock: Clock) -> None:
    came, _ = watched(grace, clock)
    answer(grace, "a")
    answer(grace, "a")
    answer(grace, "b", abstain(Status.TIMEOUT, 2))
    answer(grace, "c", [YES[0], *abstain(Status.UNPARSABLE, 1)])
    answer(grace, "d", ticket=(78 << 16) | 5)
    clock.forward(2_000)
    assert came == [1_000]


def test_a_deadline_before_the_end_of_the_grace_stands(grace: Grace, clock: Clock) -> None:
    came, _ = watched(grace, clock, deadline_ms=120)
    clock.forward(50)
    answer(grace, "a")
    answer(grace, "b")
    clock.forward(2_000)
    assert came == [120]


def test_who_begins_after_the_others_have_answered_still_gets_its_grace(grace: Grace, clock: Clock) -> None:
    answer(grace, "a")
    answer(grace, "b")
    clock.forward(500)
    came, _ = watched(grace, clock)
    clock.forward(2_000)
    assert came == [100]


def test_what_is_cancelled_is_neither_called_nor_looked_at(grace: Grace, clock: Clock) -> None:
    came, cancel = watched(grace, clock)
    answer(grace, "a")
    answer(grace, "b")
    cancel()
    assert not clock.waiting
    clock.forward(2_000)
    cancel()
    assert (came, clock.made) == ([], 2)


def test_after_the_end_nothing_is_looked_at_any_more(grace: Grace, clock: Clock) -> None:
    came, _ = watched(grace, clock)
    grace.close()
    clock.forward(999)
    assert (came, clock.made) == ([], 2)


def test_only_the_first_votes_are_reported_and_sent(grace: Grace) -> None:
    sent: list[Any] = []
    report = grace.reporting(sent.append, TICKET, "a")
    late = packed(abstain(Status.TIMEOUT, 2))
    report(late)
    report(packed(YES))
    assert sent == [late]
    answer(grace, "b")
    assert grace.progress.reached_ns(TICKET, 1)
    assert grace.progress.reached_ns(TICKET, 2) is None


@pytest.mark.parametrize(
    "ticket", [0, -1, -(5 << 16), (9 << 16) | CAPACITY, (9 << 16) | 0xFFFF, 2**62 | 0xFFFF]
)
def test_tickets_of_no_gate_are_never_answered(tmp_path: Path, ticket: int) -> None:
    found = Progress(tmp_path / "answered", 3)
    for member in range(3):
        found.mark(ticket, member)
    assert found.reached_ns(ticket, 1) is None
    assert not any((tmp_path / "answered").read_bytes())


def test_every_process_sees_every_slot_and_member(tmp_path: Path) -> None:
    own, other = (Progress(tmp_path / "answered", 3) for _ in range(2))
    for slot in (0, 1, 77, CAPACITY - 1):
        ticket = (slot + 5) << 16 | slot
        for count, member in enumerate((2, 0, 1), 1):
            assert other.reached_ns(ticket, count) is None
            before = time.monotonic_ns()
            own.mark(ticket, member)
            found = other.reached_ns(ticket, count)
            assert found is not None
            assert before <= found <= time.monotonic_ns()
    assert other.reached_ns(5 << 16, 3) == own.reached_ns(5 << 16, 3) is not None


def test_the_file_is_private_and_never_gets_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answered"
    large = Progress(path, 9)
    assert path.stat().st_mode & 0o777 == 0o600
    size = path.stat().st_size
    Progress(path, 2)
    assert path.stat().st_size == size
    large.mark(5 << 16 | CAPACITY - 1, 8)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        Progress(link, 2)
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    with pytest.raises(PermissionError, match="another user; remove it"):
        Progress(path, 2)


def test_the_thread_of_the_deadlines_ends_the_wait(tmp_path: Path) -> None:
    deadlines = Deadlines()
    settings = {"grace_ms": 20, "min_members": 1, "voters": ["a", "b"]}
    grace = Grace(settings, deadlines, tmp_path / "answered")
    came, far = threading.Event(), time.monotonic_ns() + 3_600 * 10**9
    grace.hurrying(TICKET)(far, came.set)
    forgotten = threading.Event()
    grace.hurrying(TICKET + 1)(far, forgotten.set)
    answer(grace, "a")
    assert came.wait(30)
    assert not forgotten.is_set()
    grace.close()
    deadlines.close()
    assert forgotten.is_set(), "a question without an answer at the end must get its abstention"


class Runtime:
    """Answers the questions of one member only, and keeps the others."""

    def __init__(self, replies: bool) -> None:
        self.replies, self.asked = replies, list[tuple[Question, Done]]()

    def submit(self, question: Question, done: Done) -> None:
        self.asked.append((question, done))
        if self.replies:
            done([Vote("red", Status.ANSWERED)])

    def close(self) -> None:
        pass


@pytest.mark.usefixtures("serving")
def test_of_two_members_in_one_process_the_late_one_is_stopped(tmp_path: Path) -> None:
    """The response of their model comes when the grace ends, and the work on the late answer with it."""
    from quorum.serving.member import Member, TritonPythonModel
    from quorum.serving.reply import Reply

    settings = {"prompt": "bare", "timeout_s": 3_600, "reserve_ms": 0, "max_in_flight": 9}
    deadlines = Deadlines()
    model, runtimes = TritonPythonModel(), [Runtime(replies) for replies in (True, False)]
    model._names, model._direct, model._admission = ["a", "b"], True, Admission(tmp_path / "tickets")
    model._deadlines, model._cancels = deadlines, Cancels(model._admission)
    model._close_runtimes, model._tracing = (lambda: None), None
    model._grace = Grace(
        {"grace_ms": 20, "min_members": 2, "voters": ["a", "b", "c"]}, deadlines, tmp_path / "answered"
    )
    model._members = [
        Member(own, Answering(own, Catalogue({}), runtime), deadlines)
        for own, runtime in zip([{"name": name, **settings} for name in "ab"], runtimes, strict=True)
    ]
    reply, came = Reply(["a_", "b_"]), threading.Event()
    question = Admitted("text", "", ("color",), time.monotonic_ns() + 3_600 * 10**9)
    model._ask(question, TICKET, pack_question(question), reply)
    sent: list[Any] = []

    class Request:
        def get_response_sender(self) -> Any:
            return self

        def send(self, response: Any, flags: int) -> None:
            sent.append({t.name: unpack_votes(t.array.tobytes()) for t in response.output_tensors})
            came.set()

    assert reply.now_or_later(Request()) is None
    ((late, done),) = runtimes[1].asked
    assert not late.expired
    other = Progress(tmp_path / "answered", 3)
    other.mark(TICKET, 2)
    assert came.wait(30)
    assert sent == [{"a_VOTES": [("red", 0, None)], "b_VOTES": [("", Status.TIMEOUT, None)]}]
    model.finalize()
    assert late.expired
    assert late.deadline_ns > time.monotonic_ns()
    done([Vote("blue", Status.ANSWERED)])
    assert len(sent) == 1
    assert other.reached_ns(TICKET, 3) is None
