# SPDX-License-Identifier: Apache-2.0
"""The rule over arrays is the rule of one request; majority is as arithmetic says; lazy equals full."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorum.decision.arrays import Rule, decide, decide_rows, equal_rule
from quorum.decision.cell import Parameters, decide_one
from quorum.decision.lazy import is_settled, order
from quorum.decision.parts import find_part

NAMES = {-1: "", 0: "n/a", 1: "wool", 2: "soft Wool", 3: "silk"}


def ballots(row):
    return [(NAMES.get(int(v), f"v{v}"), int(v == -1)) for v in row]


@settings(max_examples=200)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_arrays_and_scalars_decide_alike(members, seed, calibrated, round_weights):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 4, (30, members))
    groups = rng.integers(0, 2, 30)
    weights = (
        rng.choice([0.0, 0.1, 0.2, 0.3, 1.0], (2, members)) if round_weights else rng.random((2, members)) * 3
    )
    parts = np.array([1 if {1, 2} <= set(row) else -1 for row in codes.tolist()])
    rule = Rule(weights, rng.normal(size=2), rng.normal(size=2) if calibrated else None, rng.normal(size=2))
    for decision in (decide(codes, rule, groups, parts), decide_rows(codes, rule, groups, parts)):
        for i, row in enumerate(codes):
            none = None if rule.none_bias is None else float(rule.none_bias[groups[i]])
            na_bias, part_bias = float(rule.na_bias[groups[i]]), float(rule.part_bias[groups[i]])
            parameters = Parameters(tuple(weights[groups[i]].tolist()), na_bias, none, part_bias)
            value, confidence = decide_one(parameters, ballots(row))
            winner = decision.winner[i]
            assert value == ("" if winner < 0 else ballots(row)[winner][0])
            assert confidence == pytest.approx(decision.confidence[i], abs=1e-12)


@pytest.mark.parametrize(("p", "values"), [(0.8, 2), (0.7, 4), (0.6, 10)])
def test_majority_of_three_is_right_as_often_as_arithmetic_says(p, values):
    expected = 0.0
    for row in itertools.product(range(1, values + 1), repeat=3):
        chance = np.prod([p if v == 1 else (1 - p) / (values - 1) for v in row])
        winner = decide(np.array([row]), equal_rule(3)).winner[0]
        expected += chance * (row[winner] == 1)
    assert expected == pytest.approx(
        p**3 + 3 * p**2 * (1 - p) + p * (1 - p) ** 2 * (values - 2) / (values - 1)
    )
    assert expected == pytest.approx({2: 0.8960, 4: 0.8260, 10: 0.7333}[values], abs=5e-5)


def test_ties_go_to_the_heaviest_then_to_the_first():
    codes = np.array([[1, 1, 2, 2], [2, 1, 1, 2]])
    assert decide(codes, equal_rule(4)).winner.tolist() == [0, 0]
    assert decide(codes, Rule(np.array([[1.0, 1.0, 2.0, 0.0]]), np.zeros(1))).winner.tolist() == [2, 2]
    assert decide(codes, Rule(np.array([[0.1, 0.2, 0.3, 0.0]]), np.zeros(1))).winner[0] == 2


def test_nobody_answered():
    decision = decide(np.array([[-1, -1, -1]]), equal_rule(3))
    assert (decision.winner[0], decision.confidence[0]) == (-1, 0.0)


def test_mismatches_are_refused():
    with pytest.raises(ValueError, match="3 members in the votes, 2 in the weights"):
        decide(np.zeros((1, 3), np.int8), equal_rule(2))
    with pytest.raises(ValueError, match="group ids"):
        decide(np.zeros((1, 3), np.int8), equal_rule(3), np.array([1]))


def test_equal_weights_are_a_majority_vote():
    decision = decide(np.array([[1, 2, 2], [1, 1, -1]]), equal_rule(3))
    assert decision.winner.tolist() == [1, 0]
    assert decision.confidence.tolist() == [pytest.approx(2 / 3), 1.0]


def test_a_part_is_the_shortest_value_within_another():
    assert find_part(["soft cotton", "Cotton", "wool", "cotton"]) == 1
    assert find_part(["soft cotton blend", "cotton blend", "cotton", None]) == 2
    assert find_part(["red", None, "RED", "blue"]) == -1
    assert find_part(["", "red", "re d"]) == -1
    assert find_part([None, "red"]) == -1
    assert find_part(["bb", "aa", "aabb"]) == 0


def test_parts_are_compared_composed():
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert find_part(["cafe", apart]) == -1
    assert find_part(["cafe", composed]) == -1
    assert find_part([f"{apart} brown", composed]) == 1
    assert find_part([composed, apart]) == -1
    assert find_part(["STRASSE 5", "stra\u00dfe"]) == 1
    # A capital whose lower case takes two characters, and one that is longer apart than composed.
    assert find_part(["\u0130stanbul", "i\u0307stanbul pink"]) == 0
    assert find_part(["e\u0301", "caf\u00e9"]) == -1


def test_a_single_character_is_a_part_only_as_a_word():
    assert find_part(["s", "shoes"]) == -1
    assert find_part(["5", "15 cm"]) == -1
    assert find_part(["5", "5cm"]) == -1
    assert find_part(["s", "size S"]) == 0
    assert find_part(["s/m", "S"]) == 1
    assert find_part(["5", "5 cm"]) == 0
    assert find_part(["s", "shoes", "oes"]) == 2
    assert find_part(["size (%)", "%"]) == 1
    # Scripts without spaces between words: a character is a word.
    assert find_part(["\u7ea2", "\u7ea2\u8272"]) == 0


def test_the_bias_for_parts_moves_the_part_only():
    votes = [("soft cotton", 0), ("soft cotton", 0), ("cotton", 0), ("n/a", 0), ("cotton", 1)]
    assert decide_one(Parameters((1.0,) * 5), votes)[0] == "soft cotton"
    assert decide_one(Parameters((1.0,) * 5, 0.0, None, 1.5), votes)[0] == "cotton"
    assert decide_one(Parameters((1.0,) * 2, 0.0, None, 1.5), votes[:2])[0] == "soft cotton"


def test_whom_to_ask_first():
    assert order([1.0, 3.0, 2.0]) == [1, 2, 0]
    assert order([1.0, 3.0, 2.0], [0.1, 3.0, 1.0]) == [0, 2, 1]
    assert order([1.0, 1.0]) == [0, 1]
    with pytest.raises(ValueError, match="above 0"):
        order([1.0], [0.0])


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_stopping_early_never_changes_the_decision(members):
    """Every pattern, with abstentions and "n/a", biases, ties and negative weights."""
    rng = np.random.default_rng(members)
    choices = [("", 1), ("n/a", 0), *(("xy"[i % 2] * (i // 2 + 1), 0) for i in range(members))]
    stopped = 0
    for draw in range(12):
        weights = rng.integers(0, 3, members).astype(float) if draw < 4 else rng.normal(1.0, 1.0, members)
        biases = [float(rng.choice([0.0, rng.normal()])) for _ in range(2)]
        parameters = Parameters(tuple(weights.tolist()), biases[0], None, biases[1])
        asked = order(parameters.weights) if draw % 2 else rng.permutation(members).tolist()
        for votes in itertools.product(choices, repeat=members):
            full = decide_one(parameters, votes)[0]
            known = [None] * members
            for step, j in enumerate(asked):
                known[j] = votes[j]
                if is_settled(parameters, known):
                    stopped += step + 1 < members
                    seen = [ballot or ("", 5) for ballot in known]
                    assert decide_one(parameters, seen)[0] == full
                    break
    assert stopped > 0 or members == 1
