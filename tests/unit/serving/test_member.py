# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quorum.runtimes.cancellation import Cancellation
from quorum.serving.answering import Done
from quorum.serving.budget import Budget
from quorum.serving.deadlines import Deadlines
from quorum.serving.open_question import pack_open
from quorum.serving.packing import (
    Admitted,
    add_ticket,
    pack_left_out,
    pack_question,
    pack_votes,
    unpack_answer,
    unpack_votes,
)
from quorum.tasks.parse import Vote, abstain
from quorum_contract import Price, Spent, Status
from quorum_contract.usage import CALLED

pytestmark = pytest.mark.usefixtures("serving")
SETTINGS = {"name": "m", "timeout_s": 9, "reserve_ms": 0, "max_in_flight": 2}


class Held:
    """Keeps questions until the test answers them."""

    def __init__(self) -> None:
        self.asked: list[Done] = []
        self.questions: list[Admitted] = []
        self.cancellations: list[Cancellation] = []

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        assert body == pack_question(admitted)
        self.asked.append(done)
        self.questions.append(admitted)
        self.cancellations.append(cancellation)


def ask(member: Any, sent: list[bytes], left_s: float = 10.0) -> None:
    admitted = Admitted("text", "", ("a", "b"), time.monotonic_ns() + int(left_s * 1e9))
    member.ask(admitted, pack_question(admitted), sent.append)


def test_a_member_holds_as_many_questions_as_its_limit_says() -> None:
    from quorum.serving.member import Member

    timer, held = Deadlines(), Held()
    member = Member(SETTINGS, held, timer)
    sent: list[bytes] = []
    for _ in range(3):
        ask(member, sent)
    assert [unpack_votes(votes) for votes in sent] == [[("", Status.OVERLOADED, None)] * 2]
    votes = pack_votes([Vote("x", Status.ANSWERED), Vote("y", Status.ANSWERED)])
    held.asked[0](votes)
    held.asked[0](votes)
    assert sent[1:] == [votes, votes]
    ask(member, sent)
    ask(member, sent)
    assert len(held.asked) == 3
    timer.close()


def test_a_question_that_is_late_is_not_asked() -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    ask(Member(SETTINGS, held, timer), sent, left_s=-1)
    assert sent == [pack_votes(abstain(Status.TIMEOUT, 2))]
    assert held.asked == []
    timer.close()


def test_a_question_that_is_not_answered_in_time_is_an_abstention() -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    ask(Member(SETTINGS, held, timer), sent)
    assert sent == []
    assert not held.cancellations[0].is_cancelled
    timer.close()
    assert sent == [pack_votes(abstain(Status.TIMEOUT, 2), CALLED)], "it was called all the same"
    assert held.cancellations[0].is_cancelled, "the runtime works on for no one"


def test_a_runtime_that_raises_is_an_abstention() -> None:
    from quorum.serving.member import Member

    class Broken:
        def ask(self, *_: object) -> None:
            raise RuntimeError("broken")

    timer, sent = Deadlines(), list[bytes]()
    member = Member(SETTINGS, Broken(), timer)
    for _ in range(3):
        ask(member, sent)
    timer.close()
    assert sent == [pack_votes(abstain(Status.ERROR, 2))] * 3, "its places are free again"


def test_the_counter_keeps_to_its_limit() -> None:
    from quorum.serving.places import Places

    counter = Places()
    first, second, third = (counter.enter(2) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    first()
    first()
    assert counter.enter(2) is not None
    assert counter.enter(2) is None


def test_a_row_may_end_before_the_question() -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    member = Member({**SETTINGS, "reserve_ms": 5000}, held, timer)
    admitted = Admitted("text", "", ("a", "b"), time.monotonic_ns() + int(60e9))
    member.ask(admitted, pack_question(admitted), sent.append, row_ends_ns=time.monotonic_ns() + int(5e7))
    # The reserve is taken from the question's time, not from that of each row.
    assert sent == []
    while not sent:
        time.sleep(0.005)
    assert sent == [pack_votes(abstain(Status.TIMEOUT, 2), CALLED)]
    assert held.cancellations[0].is_cancelled
    timer.close()


class Rows:
    """The step of a model with two members, whose tickets are valid."""

    def __init__(self, tmp_path: Path) -> None:
        from quorum.serving import member
        from quorum.serving.progress import Grace

        self.timer, self.held = Deadlines(), Held()
        settings = {"grace_ms": 20, "min_members": 1, "voters": ["m", "n"]}
        self.used: list[int] = []
        self.step = step = member.TritonPythonModel()
        step._name, step._direct, step._names, step._prefixes = "model", False, ["m", "n"], ["m_", "n_"]
        step._admission = SimpleNamespace(
            is_valid=lambda ticket, *_: ticket == 1, seal=lambda body: 0, use=self.used.append
        )
        step._deadlines = self.timer
        step._tracing = None
        step._cancels = SimpleNamespace(hurrying=lambda ticket, add: add)
        step._grace = self.grace = Grace(settings, self.timer, tmp_path / "answered")
        step._members = [member.Member({**SETTINGS, "name": name}, self.held, self.timer) for name in "mn"]

    def ask(self, asked: bytes | None, ticket: int = 1) -> list[list[Any]] | None:
        """The votes of each member, if the step has them at once."""
        question = Admitted("text", "", ("a", "b", "c"), time.monotonic_ns() + int(60e9))
        packed = {"QUESTION": add_ticket(ticket, pack_question(question))}
        packed |= {} if asked is None else {"OPEN": asked}
        inputs = [
            SimpleNamespace(
                name=lambda name=name: name, as_numpy=lambda data=data: np.frombuffer(data, np.uint8)
            )
            for name, data in packed.items()
        ]
        self.sender = SimpleNamespace(send=lambda response, flags: self.sent.append(response))
        self.sent: list[Any] = []
        request = SimpleNamespace(inputs=lambda: inputs, get_response_sender=lambda: self.sender)
        (response,) = self.step.execute([request])
        return None if response is None else votes_in(response)


def votes_in(response: Any) -> list[list[Any]]:
    return [unpack_votes(tensor.array.tobytes()) for tensor in response.output_tensors]


def opened(*positions: int, seconds: float = 60.0, whole: bool = False) -> bytes:
    now = time.monotonic_ns()
    return pack_open(positions, now + int(seconds * 1e9), now, 1, whole)


def test_members_with_nothing_left_to_answer_are_not_asked(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    assert rows.ask(opened()) == [[("", Status.NOT_ASKED, None)] * 3] * 2
    assert rows.ask(opened(), ticket=2) == [[("", Status.REFUSED, None)] * 3] * 2
    assert (rows.held.asked, rows.used) == ([], [])
    assert unpack_answer(pack_left_out(2)) == ([("", Status.NOT_ASKED, None)] * 2, Spent(), (0, 1))
    rows.timer.close()


def test_members_are_asked_the_open_attributes_alone(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    assert rows.ask(opened(0, 2)) is None
    assert rows.used == [1]
    assert [admitted.attributes for admitted in rows.held.questions] == [("a", "c")] * 2
    for number, done in enumerate(rows.held.asked):
        done(pack_votes([Vote("x", Status.ANSWERED, -0.5), Vote(str(number), Status.ANSWERED)]))
    (response,) = rows.sent
    left_out = ("", Status.NOT_ASKED, None)
    assert votes_in(response) == [[("x", 0, -0.5), left_out, (str(number), 0, None)] for number in range(2)]
    rows.timer.close()


@pytest.mark.parametrize("asked", [None, (0, 1, 2)], ids=["all", "listed"])
def test_members_of_the_first_row_are_asked_as_ever(tmp_path: Path, asked: tuple[int, ...] | None) -> None:
    rows = Rows(tmp_path)
    assert rows.ask(None if asked is None else opened(*asked)) is None
    assert [admitted.attributes for admitted in rows.held.questions] == [("a", "b", "c")] * 2
    rows.timer.close()


def test_whole_questions_are_asked_while_any_attribute_is_open(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    assert rows.ask(opened(whole=True)) == [[("", Status.NOT_ASKED, None)] * 3] * 2
    assert rows.ask(opened(1, whole=True)) is None
    assert [admitted.attributes for admitted in rows.held.questions] == [("a", "b", "c")] * 2
    votes = [Vote(value, Status.ANSWERED) for value in "xyz"]
    for done in rows.held.asked:
        done(pack_votes(votes))
    (response,) = rows.sent
    assert votes_in(response) == [[(value, 0, None) for value in "xyz"]] * 2
    rows.timer.close()


@pytest.mark.parametrize(
    "asked", [b"", b"\xc1", opened(3), opened(1, 0)], ids=["empty", "garbage", "beyond", "falling"]
)
def test_a_malformed_part_is_an_error_of_the_members(tmp_path: Path, asked: bytes) -> None:
    rows = Rows(tmp_path)
    assert rows.ask(asked) == [[("", Status.ERROR, None)] * 3] * 2
    assert rows.held.asked == []
    rows.timer.close()


def test_answers_of_earlier_rows_start_no_grace(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    rows.grace.progress.mark(1, 1)
    time.sleep(0.001)
    assert rows.ask(opened(0)) is None
    time.sleep(0.1)
    assert not rows.held.cancellations[0].is_cancelled, "it had no head start"
    rows.held.asked[1](pack_votes([Vote("x", Status.ANSWERED)]))
    end = time.monotonic() + 10
    while not rows.held.cancellations[0].is_cancelled:
        assert time.monotonic() < end, "an answer to all that was asked starts the grace"
        time.sleep(0.005)
    rows.timer.close()


def test_a_member_whose_budget_is_spent_abstains_without_asking(tmp_path: Path) -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    budget = Budget("m", {"calls_per_day": 2}, None, tmp_path)
    member = Member(SETTINGS, held, timer, budget)
    votes = [Vote("x", Status.ANSWERED)] * 2
    for number in range(2):
        ask(member, sent)
        held.asked[number](pack_votes(votes, Spent(1, 5, 5)))
        held.asked[number](pack_votes(votes, Spent(1, 5, 5)))
    ask(member, sent)
    assert len(held.asked) == 2
    assert unpack_answer(sent[-1])[:2] == ([("", Status.BUDGET, None)] * 2, Spent())
    timer.close()


def test_what_a_question_without_an_answer_may_have_cost_stays_set_aside(tmp_path: Path) -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    budget = Budget("m", {"per_day": 2.5}, Price(per_call=1.0), tmp_path)
    member = Member(SETTINGS, held, timer, budget)
    ask(member, sent)
    held.asked[0](pack_votes([Vote("x", Status.ANSWERED)] * 2, Spent(1)))
    ask(member, sent)
    held.asked[1](b"no votes")
    ask(member, sent)
    assert len(held.asked) == 2
    timer.close()


def _full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_answer_is_sent_though_its_cost_cannot_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    member = Member(SETTINGS, held, timer, Budget("m", {"calls_per_day": 9}, None, tmp_path))
    ask(member, sent)
    monkeypatch.setattr(os, "pwrite", _full_disk)
    votes = pack_votes([Vote("x", Status.ANSWERED)] * 2, Spent(2))
    held.asked[0](votes)
    timer.close()
    assert sent == [votes]
    assert "its budget could not count an answer" in caplog.text


@pytest.mark.parametrize("call", ["pread", "pwrite"])
def test_a_budget_that_cannot_be_read_or_written_is_an_abstention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    from quorum.serving.member import Member

    timer, held, sent = Deadlines(), Held(), list[bytes]()
    member = Member(SETTINGS, held, timer, Budget("m", {"calls_per_day": 9}, None, tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr(os, call, _full_disk)
        for _ in range(3):
            ask(member, sent)
    assert sent == [pack_votes(abstain(Status.ERROR, 2))] * 3, "it has places for two questions"
    assert not held.asked
    assert "its budget cannot be read" in caplog.text
    assert "Traceback" not in caplog.text
    ask(member, sent)
    assert len(held.asked) == 1
    timer.close()
