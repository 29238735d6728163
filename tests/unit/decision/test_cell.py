# SPDX-License-Identifier: Apache-2.0
"""The decision rule for one cell."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.decision.cell import Parameters, decide_one


def ballots(*values):
    return [("", 1) if value is None else (value, 0) for value in values]


def test_weights_decide_and_agreement_is_the_share_of_those_who_answered():
    assert decide_one(Parameters((3.0, 1.0, 1.0)), ballots("red", "blue", "blue")) == ("red", 0.6)
    assert decide_one(Parameters((1.5, 1.0, 1.0)), ballots("red", "blue", "blue")) == ("blue", 2 / 3.5)
    assert decide_one(Parameters((1.0, 1.0, 1.0)), ballots(None, "blue", "blue")) == ("blue", 1.0)


def test_a_tie_goes_to_the_block_of_the_heaviest_member_then_of_the_first():
    assert decide_one(Parameters((1.0, 2.0, 1.0)), ballots("red", "blue", "red"))[0] == "blue"
    assert decide_one(Parameters((1.0, 1.0)), ballots("red", "blue"))[0] == "red"
    assert decide_one(Parameters((0.1, 0.2, 0.3)), ballots("red", "red", "blue"))[0] == "blue"  # .1 + .2 > .3


def test_no_answer_is_no_decision():
    assert decide_one(Parameters((1.0, 1.0)), ballots(None, None)) == ("", 0.0)
    assert decide_one(Parameters((1.0, 1.0), 0.0, 0.5), ballots(None, None)) == ("", 0.0)


def test_an_abstention_is_not_the_empty_value_and_not_n_a():
    assert decide_one(Parameters((1.0, 1.0, 1.0)), [("red", 3), ("blue", 0), ("red", 1)]) == ("blue", 1.0)
    assert decide_one(Parameters((1.0, 1.0, 1.0)), ballots("", "", "red"))[0] == ""


def test_the_bias_moves_n_a_but_never_against_everybody():
    assert decide_one(Parameters((1.0, 1.0, 1.5), -0.7), ballots("n/a", "n/a", "red"))[0] == "red"
    assert decide_one(Parameters((1.0, 1.0, 1.0), 1.5), ballots("n/a", "red", "red"))[0] == "n/a"
    assert decide_one(Parameters((1.0, 1.0), -9.0), ballots("n/a", "n/a"))[0] == "n/a"


def test_a_calibrated_confidence_is_softmax_with_none_of_these():
    value, confidence = decide_one(Parameters((2.0, 1.0), 0.5, 0.25), ballots("red", "n/a"))
    scores = [math.exp(2.0), math.exp(1.5), math.exp(0.25)]
    assert value == "red"
    assert confidence == pytest.approx(scores[0] / sum(scores))


def test_huge_weights_do_not_overflow():
    assert decide_one(Parameters((1e4, 1.0), 0.0, 0.0), ballots("red", "blue")) == ("red", 1.0)


def test_zero_weights_still_decide():
    assert decide_one(Parameters((0.0, 0.0, 0.0)), ballots("red", "blue", "red")) == (
        "red",
        pytest.approx(2 / 3),
    )


def test_as_many_ballots_as_weights():
    with pytest.raises(ValueError, match="shorter"):
        decide_one(Parameters((1.0, 1.0)), ballots("red"))


values = st.sampled_from(["red", "blue", "n/a", None])
number = st.floats(0, 5, allow_nan=False)


@given(
    st.lists(st.tuples(number, values), min_size=1, max_size=8),
    st.floats(-3, 3),
    st.none() | st.floats(-3, 3),
)
def test_always_a_named_value_a_probability_and_unanimity(rows, na_bias, none_bias):
    weights, said = zip(*rows, strict=True)
    value, confidence = decide_one(Parameters(weights, na_bias, none_bias), ballots(*said))
    named = {v for v in said if v is not None}
    assert 0.0 <= confidence <= 1.0
    assert value in named if named else (value, confidence) == ("", 0.0)
    if len(named) == 1:
        assert value == named.pop()
