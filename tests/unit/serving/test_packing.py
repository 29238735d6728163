# SPDX-License-Identifier: Apache-2.0
"""What the steps hand each other reads back as written, and whatever else is a ValueError, never more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.serving.packing import Admitted, pack_question, pack_votes, unpack_question, unpack_votes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
QUESTIONS = st.builds(Admitted, TEXTS, TEXTS, st.lists(TEXTS, max_size=64), INT64, INT64)
VOTES = st.lists(st.tuples(TEXTS, st.integers(0, 7)), max_size=64)


@given(QUESTIONS)
def test_a_question_reads_back(question: Admitted) -> None:
    assert unpack_question(pack_question(question)) == question


@given(VOTES)
def test_votes_read_back(votes: list[tuple[str, int]]) -> None:
    assert unpack_votes(pack_votes(votes)) == votes


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    for unpack in (unpack_question, unpack_votes):
        try:
            unpack(data)
        except ValueError:
            continue


@given(QUESTIONS, st.data())
def test_a_question_that_is_cut_off_or_longer_is_refused(question: Admitted, data: st.DataObject) -> None:
    whole = pack_question(question)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        with pytest.raises(ValueError, match=r"bytes|question|cut off"):
            unpack_question(broken)


def test_a_count_beyond_the_bytes_allocates_nothing() -> None:
    with pytest.raises(ValueError, match="4294967295"):
        unpack_votes(b"\xff\xff\xff\xff" + bytes(100))
    with pytest.raises(ValueError, match="strings in"):
        unpack_question(bytes(16) + b"\xff\xff\xff\xff" + bytes(100))
