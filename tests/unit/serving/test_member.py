# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from quorum.runtimes.cancellation import Cancellation
from quorum.serving.answering import Done
from quorum.serving.budget import Budget
from quorum.serving.deadlines import Deadlines
from quorum.serving.packing import Admitted, pack_question, pack_votes, unpack_answer, unpack_votes
from quorum.tasks.parse import Vote, abstain
from quorum_contract import Price, Spent, Status
from quorum_contract.usage import CALLED

pytestmark = pytest.mark.usefixtures("serving")
SETTINGS = {"name": "m", "timeout_s": 9, "reserve_ms": 0, "max_in_flight": 2}


class Held:
    """Keeps questions until the test answers them."""

    def __init__(self) -> None:
        self.asked: list[Done] = []
        self.cancellations: list[Cancellation] = []

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        assert body == pack_question(admitted)
        self.asked.append(done)
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
    ask(Member(SETTINGS, Broken(), timer), sent)
    assert sent == [pack_votes(abstain(Status.ERROR, 2))]
    timer.close()


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
    assert unpack_answer(sent[-1]) == ([("", Status.BUDGET, None)] * 2, Spent())
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
