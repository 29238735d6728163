# SPDX-License-Identifier: Apache-2.0
"""Answers that name any number of things: each is decided like a single value."""

from __future__ import annotations

from functools import partial

import pytest

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.sets import NAMED, decide_set, explode, things_of
from quorum.decision.spans import SpansError
from quorum_contract import DecisionStatus

TEXT = "red iphone 12 case"
RED, CASE = '["red","color"]', '["case","product"]'
PHONE, LONGER = '["iphone 12","device"]', '["iphone 12 case","device"]'


def answered(*values: str | None) -> list[tuple[str, int]]:
    return [("", 4) if value is None else (value, 0) for value in values]


def decided(weights: list[float], *values: str | None, spans: bool = True) -> tuple[str, float]:
    cell = partial(decide_one, Parameters(tuple(weights)))
    return decide_set(cell, answered(*values), TEXT, are_spans=spans)


def test_each_span_is_voted_on() -> None:
    value, confidence = decided([1, 1, 1], f"[{RED},{CASE}]", f"[{RED}]", f"[{RED},{PHONE}]")
    assert value == f"[{RED}]"
    assert confidence == pytest.approx(2 / 3)


def test_weights_decide_and_an_abstention_is_no_vote_against() -> None:
    assert decided([3, 1, 1], f"[{CASE}]", "[]", "[]")[0] == f"[{CASE}]"
    assert decided([1, 1, 1], f"[{CASE}]", None, None) == (f"[{CASE}]", 1.0)
    assert decided([1, 1], None, None) == ("", 0.0)


def test_of_spans_that_overlap_the_surest_stays() -> None:
    # Both are above one half of the weight, so both win their own cell.
    both = f"[{PHONE},{LONGER}]"
    assert decided([1, 1, 1], both, both, f"[{LONGER}]")[0] == f"[{LONGER}]"
    assert decided([1, 1], both, both)[0] == f"[{LONGER}]", "as sure: the longer one"


def test_a_span_left_out_for_another_lowers_the_confidence() -> None:
    both = f"[{PHONE},{LONGER}]"
    cell = partial(decide_one, Parameters((1, 1, 1)))
    value, confidence = decide_set(cell, answered(both, both, f"[{LONGER}]"), TEXT, are_spans=True)
    assert (value, confidence) == (f"[{LONGER}]", pytest.approx(1 - 2 / 3))


def test_words_that_two_members_name_win_whatever_stands_beside_them() -> None:
    votes = ['[["hat","x"],["red","x"]]', '[["red","x"]]', "[]"]
    cell = partial(decide_one, Parameters((1, 1, 1)))
    assert decide_set(cell, answered(*votes), "red hat red", are_spans=True)[0] == '[["red","x"]]'


def test_words_stay_that_have_another_place_beside_a_longer_span() -> None:
    vote, cell = '[["red hat","x"],["red","x"]]', partial(decide_one, Parameters((1, 1)))
    value, confidence = decide_set(cell, answered(vote, vote), "red hat red", are_spans=True)
    assert sorted(things_of(value, "red hat red")) == sorted(things_of(vote, "red hat red"))
    assert confidence == 1.0
    assert decide_set(cell, answered(vote, vote), "red hat", are_spans=True)[0] == '[["red hat","x"]]'


def test_no_span_at_all_is_an_answer() -> None:
    assert decided([1, 1], "[]", "[]") == ("[]", 1.0)
    assert decided([1, 1], "n/a", None) == ("n/a", 1.0), "no member was asked, as of other kinds"
    assert decided([1, 1], "n/a", "[]") == ("[]", 1.0)
    assert decided([1, 1], "n/a", "n/a", spans=False) == ("n/a", 1.0)


def test_several_values_are_sorted_and_none_left_is_not_applicable() -> None:
    assert decided([1, 1, 1], '["red","blue"]', '["blue"]', '["red"]', spans=False)[0] == '["blue","red"]'
    assert decided([1, 1, 1], '["red"]', "n/a", "n/a", spans=False)[0] == "n/a"


def test_an_answer_that_cannot_be_read_is_an_abstention() -> None:
    named = explode([f"[{RED}]", "garbage", '[["green","color"]]', None, "[]"], TEXT)
    assert list(named.values()) == [(NAMED, None, None, None, "n/a")]
    with pytest.raises(SpansError, match="not in"):
        things_of('[["green","color"]]', TEXT)


def test_the_quorum_counts_members_that_answered() -> None:
    ballots = answered(f"[{RED}]", None, None)
    short = decide(QuorumRule(2), Parameters((1, 1, 1)), ballots, form="spans", text=TEXT)
    assert short == ("", 0.0, DecisionStatus.NO_QUORUM)
    value, _, status = decide(QuorumRule(1), Parameters((1, 1, 1)), ballots, form="spans", text=TEXT)
    assert (value, status) == (f"[{RED}]", DecisionStatus.DECIDED)
    nothing = decide(QuorumRule(1), Parameters((1, 1, 1)), answered(None, None, None), form="text")
    assert nothing == ("", 0.0, DecisionStatus.NO_ANSWER)
