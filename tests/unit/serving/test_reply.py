# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from typing import Any

import pytest

from quorum.serving.packing import pack_votes, unpack_votes
from quorum.tasks.parse import Vote, abstain
from quorum_contract import Status

pytestmark = pytest.mark.usefixtures("serving")


def once(sender: Any) -> Any:
    from quorum.serving.reply import Reply

    reply = Reply()
    assert reply.now_or_later(Request(sender)) is None
    return reply


def answered(value: str) -> bytes:
    return pack_votes([Vote(value, Status.ANSWERED)])


def missed() -> bytes:
    return pack_votes(abstain(Status.TIMEOUT, 1))


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


def test_only_the_first_answer_is_sent() -> None:

    sender = Sender()
    answer = once(sender)
    barrier = threading.Barrier(8)

    def race(i: int) -> None:
        barrier.wait()
        answer(answered(f"v{i}") if i % 2 else missed())

    threads = [threading.Thread(target=race, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sender.sent) == 1


def test_votes_that_are_there_at_once_need_no_sender() -> None:
    from quorum.serving.reply import Reply

    reply = Reply()
    reply(answered("red"))
    reply(missed())
    request = Request(Sender())
    (tensor,) = reply.now_or_later(request).output_tensors
    assert unpack_votes(tensor.array.tobytes()) == [("red", 0, None)]
    reply(missed())
    assert len(request._senders) == 1
    assert request.get_response_sender().sent == []


def test_several_members_answer_when_the_last_of_them_has() -> None:
    from quorum.serving.reply import Reply

    sender = Sender()
    reply = Reply(("a_", "b_"))
    reply(answered("red"), position=1)
    assert reply.now_or_later(Request(sender)) is None
    assert sender.sent == []
    reply(answered("blue"), position=0)
    (sent,) = sender.sent
    assert {name: unpack_votes(bytes(data)) for name, data in sent.items()} == {
        "a_VOTES": [("blue", 0, None)],
        "b_VOTES": [("red", 0, None)],
    }


def test_an_answer_that_could_not_be_sent_becomes_an_abstention() -> None:

    sender = Sender(failures=1)
    once(sender)(answered("red"))
    assert [unpack_votes(bytes(one["VOTES"])) for one in sender.sent] == [[("", int(Status.ERROR), None)]]


def test_a_caller_who_is_gone_harms_nobody() -> None:

    sender = Sender(failures=2)
    once(sender)(missed())
    assert sender.sent == []


def test_each_members_first_votes_are_recorded_once_they_are_sent() -> None:
    from quorum.serving.reply import Reply

    sender, recorded = Sender(), list[tuple[int, bytes, int]]()
    reply = Reply(("a_", "b_"), lambda position, votes: recorded.append((position, votes, len(sender.sent))))
    reply(answered("early"))
    assert reply.now_or_later(Request(sender)) is None
    reply(answered("late"))
    reply(missed(), position=1)
    reply(answered("later"), position=1)
    assert recorded == [(0, answered("early"), 0), (1, missed(), 1)]
