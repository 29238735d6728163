# SPDX-License-Identifier: Apache-2.0
"""What the steps hand each other reads back as written, and whatever else is a ValueError, never more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.serving.packing import (
    Admitted,
    Ticketed,
    add_ticket,
    pack_question,
    pack_votes,
    take_ticket,
    unpack_answer,
    unpack_question,
    unpack_votes,
)
from quorum.tasks.parse import Vote
from quorum_contract import MAX_ATTRIBUTES, Spent, Status
from quorum_contract.usage import CALLED

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
QUESTIONS = st.builds(Admitted, TEXTS, TEXTS, st.lists(TEXTS, max_size=64).map(tuple), INT64)
SCORES = st.none() | st.floats(max_value=0.0, width=32)
VOTES = st.lists(st.builds(Vote, TEXTS, st.sampled_from(Status), SCORES), max_size=64)


@given(QUESTIONS)
def test_a_question_reads_back(question: Admitted) -> None:
    found = unpack_question(pack_question(question))
    assert found == question
    assert type(found.attributes) is tuple


@given(QUESTIONS, INT64)
def test_a_ticket_comes_off_again(question: Admitted, ticket: int) -> None:
    body = pack_question(question)
    assert take_ticket(add_ticket(ticket, body)) == Ticketed(ticket, body)


@given(VOTES)
def test_votes_read_back(votes: list[Vote]) -> None:
    assert unpack_votes(pack_votes(votes)) == [(vote.value, int(vote.status), vote.score) for vote in votes]


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    for unpack in (unpack_question, unpack_votes, lambda found: unpack_question(take_ticket(found).body)):
        try:
            unpack(data)
        except ValueError:
            continue


@given(QUESTIONS, st.data())
def test_a_question_that_is_cut_off_or_longer_is_refused(question: Admitted, data: st.DataObject) -> None:
    whole = pack_question(question)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        with pytest.raises(ValueError, match="question"):
            unpack_question(broken)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xdd\xff\xff\xff\xff" + bytes(100), id="a count beyond the bytes"),
        pytest.param(b"\x91" * 100_000, id="deeper than any recursion"),
        pytest.param(b"\x91\x92\xa1\xff\x00", id="not UTF-8"),
        pytest.param(pack_votes([("red", 0, None)]) + b"\0", id="more than votes"),
        pytest.param(
            pack_votes([("red", 0, None)] * (MAX_ATTRIBUTES + 1)), id="more votes than attributes can be"
        ),
        pytest.param(pack_votes([("red", 1 << 40, None)]), id="a status that wraps round to answered"),
        pytest.param(pack_votes([("red", -1, None)]), id="a status below all"),
        pytest.param(msgspec.msgpack.encode([("red",)]), id="less than a vote"),
        pytest.param(msgspec.msgpack.encode([("red", 0), ("red", 0, None)]), id="votes of two releases"),
        pytest.param(msgspec.msgpack.encode([("red", 0, "-0.5")]), id="a score that is a text"),
        pytest.param(msgspec.msgpack.encode([("red", 0, True)]), id="a score that is true"),
        pytest.param(msgspec.msgpack.encode([("red", 0, None, 1)]), id="more than a vote"),
        pytest.param(pack_question(Admitted("a", "", ("b",), 0)), id="a question"),
    ],
)
def test_what_no_member_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="votes"):
        unpack_votes(data)


def test_votes_of_a_release_without_scores_are_read() -> None:
    old = msgspec.msgpack.encode([("red", 0), ("", 3)])
    assert unpack_votes(old) == [("red", 0, None), ("", 3, None)]


@pytest.mark.parametrize("old", [[("red", 0, -0.5), ("", 3, None)], [("red", 0), ("", 3)], []])
def test_votes_of_a_release_without_usage_are_read(old: list[tuple[Any, ...]]) -> None:
    found = unpack_answer(msgspec.msgpack.encode(old))
    assert [vote[:2] for vote in found.votes] == [vote[:2] for vote in old]
    assert found.spent == CALLED


@pytest.mark.parametrize("spent", [Spent(), CALLED, Spent(2, 310, 24, 250, 0.125)])
def test_what_an_answer_took_reads_back(spent: Spent) -> None:
    found = unpack_answer(pack_votes([("red", 0, -0.5)], spent))
    assert found == ([("red", 0, -0.5)], spent, ())
    assert type(found.spent) is Spent


def test_more_names_than_the_gate_lets_through_are_not_built() -> None:
    count = 1_000_000
    body = b"\x94\xa1a\xa0\xdd" + count.to_bytes(4, "big") + b"\xa0" * count + b"\x00"
    with pytest.raises(ValueError, match="question"):
        unpack_question(body)
    unpack_question(pack_question(Admitted("a", "", ("b",) * MAX_ATTRIBUTES, 0)))


def test_half_a_character_is_not_packed() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        pack_votes([("\ud800", 0, None)])
