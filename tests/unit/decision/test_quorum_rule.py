# SPDX-License-Identifier: Apache-2.0
"""The quorum: how many members, and how much of the weight, must stand behind a value."""

from __future__ import annotations

import itertools
import math

import pytest

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.evidence import Evidence
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule, weight_share
from quorum.decision.scores import LEVELS
from quorum.decision.weights import Weights
from quorum_contract import DecisionStatus, Status

WEIGHTED = Parameters((3.0, 1.0, 1.0))
RED, BLUE, NA = ("red", 0), ("blue", 0), ("n/a", 0)
LATE, GONE = ("", int(Status.TIMEOUT)), ("", int(Status.ERROR))
CELLS = list(itertools.product([RED, BLUE, NA, LATE, GONE], repeat=3))
WITHHELD = ("", 0.0, DecisionStatus.NO_QUORUM)
SCORED = Parameters(
    (1.0, 0.0, 2.0),
    scores=((0.0,) * (LEVELS - 1) + (3.0,), (-1.0,) * LEVELS, (-1.0,) * (LEVELS - 1) + (-0.5,)),
)
"""Highest weights: 4, 0 and 2."""
LOGLINEAR = Parameters((2.0, 0.5, 0.5), na_bias=-5.0, none_bias=4.0, part_bias=3.0)


@pytest.mark.parametrize("parameters", [WEIGHTED, SCORED, LOGLINEAR, Parameters((0.0, 0.0, 0.0))])
@pytest.mark.parametrize("ballots", CELLS)
def test_without_a_quorum_one_member_decides_as_ever(parameters: Parameters, ballots: tuple) -> None:
    value, confidence = decide_one(parameters, ballots)
    status = DecisionStatus.DECIDED if value else DecisionStatus.NO_ANSWER
    assert decide(QuorumRule(), parameters, ballots) == (value, confidence, status)
    assert bool(value) is any(code == 0 for _, code in ballots)


@pytest.mark.parametrize("ballots", CELLS)
@pytest.mark.parametrize("least", [1, 2, 3])
def test_answers_count_and_abstentions_do_not(ballots: tuple, least: int) -> None:
    answered = sum(code == 0 for _, code in ballots)
    found = decide(QuorumRule(least), WEIGHTED, ballots)
    if answered >= least:
        assert found == (*decide_one(WEIGHTED, ballots), DecisionStatus.DECIDED)
    else:
        assert found == (WITHHELD if answered else ("", 0.0, DecisionStatus.NO_ANSWER))


@pytest.mark.parametrize(
    ("parameters", "shares"),
    [
        (WEIGHTED, (0.6, 0.2, 0.2)),
        (SCORED, (4 / 6, 0.0, 2 / 6)),
        (LOGLINEAR, (2 / 3, 1 / 6, 1 / 6)),
        (Parameters((0.0, 0.0, 0.0)), (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_the_weight_of_each_member_counts(parameters: Parameters, shares: tuple[float, ...]) -> None:
    for answered in itertools.product([False, True], repeat=3):
        share = math.fsum(itertools.compress(shares, answered))
        assert weight_share(parameters, answered) == pytest.approx(share)
        ballots = [RED if given else LATE for given in answered]
        for least in (0.1, 0.3, 0.5, 0.65, 0.9, 1.0):
            decided = decide(QuorumRule(1, least), parameters, ballots)[2] is DecisionStatus.DECIDED
            assert decided is (any(answered) and share >= least - 1e-9)


def test_a_share_exactly_at_the_bar_is_enough_whatever_the_rounding() -> None:
    assert 0.1 + 0.2 > 0.3
    parameters = Parameters((0.1, 0.2, 0.7))
    assert QuorumRule(1, 0.3).is_met(parameters, [True, True, False])
    thirds = Parameters((0.1,) * 3)
    assert QuorumRule(1, 1 / 3).is_met(thirds, [False, True, False])
    assert QuorumRule(3, 1.0).is_met(thirds, [True] * 3)


def test_both_bars_must_be_reached() -> None:
    rule = QuorumRule(2, 0.5)
    assert not rule.is_met(WEIGHTED, [True, False, False])
    assert not rule.is_met(WEIGHTED, [False, True, True])
    assert rule.is_met(WEIGHTED, [True, True, False])


def test_the_weights_of_the_attribute_and_category_count() -> None:
    weights = Weights(
        "majority",
        ("a", "b"),
        Parameters((1.0, 1.0)),
        {"size": Parameters((9.0, 1.0))},
        {"shoes|size": Parameters((1.0, 9.0))},
    )
    rule, first = QuorumRule(1, 0.6), [RED, LATE]
    found = [decide(rule, weights.parameters(*place), first)[2] for place in
             (("colour", ""), ("size", ""), ("size", "shoes"))]  # fmt: skip
    no, yes = DecisionStatus.NO_QUORUM, DecisionStatus.DECIDED
    assert found == [no, yes, no]


def test_the_text_decides_with_the_votes_but_is_no_member() -> None:
    text = Evidence({"any_case": (1.0, 0.5, 2.0)}).of("a blue shoe")
    parameters, ballots = Parameters((1.0, 0.9, 0.9)), [RED, BLUE, LATE]
    assert decide_one(parameters, ballots)[0] == "red"
    assert decide(QuorumRule(2), parameters, ballots, (), text)[0] == "blue"
    assert decide(QuorumRule(3), parameters, ballots, (), text) == WITHHELD
    assert decide(QuorumRule(1, 0.7), parameters, ballots, (), text) == WITHHELD
