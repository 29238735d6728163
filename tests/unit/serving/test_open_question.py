# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from quorum.serving.open_question import Open, open_tensor, pack_open, reduced, rows_in, unpack_open
from quorum.serving.packing import Admitted, pack_votes, spread_votes, unpack_answer, unpack_votes
from quorum_contract import Status
from quorum_contract.tensors import ANSWERED, PACKED_QUESTION, SHARE

RED, BLUE = ("red", 0, -0.5), ("blue", 0, None)
NOT_ASKED = ("", int(Status.NOT_ASKED), None)


def test_each_row_gets_an_equal_share_of_the_time_that_is_left() -> None:
    deadline, now = 12_000, 0
    ends = []
    for rows in (3, 2, 1):
        now = unpack_open(pack_open([0], deadline, now, rows), 1).deadline_ns
        ends.append(now)
    assert ends == [4_000, 8_000, 12_000]
    # What a row did not need, the next ones have.
    assert unpack_open(pack_open([0], deadline, 2_000, 2), 1) == Open((0,), 7_000, 2_000)


def test_a_row_never_ends_after_the_question() -> None:
    late = unpack_open(pack_open([0], 1_000, 5_000, 1), 1)
    assert late.deadline_ns == 1_000


def test_the_rows_left_are_in_the_name_of_the_output() -> None:
    others = [tensor.name for tensor in (*ANSWERED, PACKED_QUESTION, SHARE)]
    assert rows_in(others) == {}
    assert rows_in([*others, open_tensor(12).name]) == {"OPEN_12": 12}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"not packed",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([[0], 1]),
        msgspec.msgpack.encode([["0"], 1, 1]),
        msgspec.msgpack.encode([[-1], 1, 1]),
        msgspec.msgpack.encode([[2], 1, 1]),
        msgspec.msgpack.encode([[1, 0], 1, 1]),
        msgspec.msgpack.encode([[0, 0], 1, 1]),
        msgspec.msgpack.encode([[*range(65)], 1, 1]),
        msgspec.msgpack.encode([[0], 0.5, 1]),
    ],
)
def test_what_is_no_part_of_the_question_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="attributes"):
        unpack_open(data, 2)


def test_only_open_attributes_are_asked_and_votes_stand_at_their_places() -> None:
    question = Admitted("text", "shoes", ("a", "b", "c"), 7)
    assert reduced(question, Open((0, 2), 5, 1)) == Admitted("text", "shoes", ("a", "c"), 7)
    votes = spread_votes(pack_votes([RED, BLUE]), (0, 2), 3)
    assert unpack_votes(votes) == [RED, NOT_ASKED, BLUE]
    assert unpack_answer(votes).left_out == (1,)


def test_votes_of_another_number_stay_what_they_are() -> None:
    votes = pack_votes([RED])
    assert spread_votes(votes, (0, 2), 3) == votes
