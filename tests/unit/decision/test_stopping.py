# SPDX-License-Identifier: Apache-2.0
"""What weights know about stopping early: kept in their file, left out where attributes changed."""

from dataclasses import replace

import pytest

from quorum.decision import weights as weights_file
from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.cell import Parameters
from quorum.decision.kept import keep_attributes
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import (
    FEATURES,
    SETTING,
    EarlyStop,
    Stopping,
    confidence_at_hand,
    early_stop,
    recorded_stopping,
    stopping_of,
    with_stopping,
)
from quorum.decision.weights import Weights, equal_weights
from quorum_contract import Status

MEMBERS = ("a", "b", "c")
PLAIN = QuorumRule()
LEARNED = Stopping(
    (-1.0, -3.0, -0.5, 1.0), ((0.01, 0.05), (0.05, 0.2)), {"1": (0.0, 0.5), "2": (0.1, 1.0)},
    ("colour", "material"), 900, 300,
)  # fmt: skip
NOT_ASKED = ("", int(Status.NOT_ASKED))


@pytest.fixture
def weights():
    hashes = {"colour": "c1", "material": "m1"}
    return with_stopping(replace(equal_weights(MEMBERS), catalogue=hashes), LEARNED)


def test_a_file_of_weights_keeps_it(weights):
    again = weights_file.loads(weights_file.dumps(weights))
    assert recorded_stopping(again.settings) == LEARNED
    assert again.content_hash == weights.content_hash
    assert recorded_stopping(with_stopping(again, None).settings) is None
    # An earlier quorum reads settings as any JSON values.
    assert isinstance(again.settings[SETTING], dict)


def test_a_risk_between_two_has_the_limit_of_the_lower_one(weights):
    assert early_stop(weights, "colour", 0.05) == EarlyStop(LEARNED.change, 0.2)
    assert early_stop(weights, "colour", 0.03) == EarlyStop(LEARNED.change, 0.05)
    assert early_stop(weights, "colour", 0.005) is None
    assert early_stop(weights, "colour", 0.0) is None
    assert early_stop(weights, "size", 0.05) is None
    assert early_stop(equal_weights(MEMBERS), "colour", 0.05) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"change": [1.0]},
        {"change": [float("1e999")] * len(FEATURES)},
        {"limits": "0.01"},
        {"lines": {"1": [0.0]}},
    ],
)
def test_what_cannot_be_read_stops_nothing_early(weights, damage):
    settings = {SETTING: {**weights.settings[SETTING], **damage}}
    assert recorded_stopping(settings) is None
    assert recorded_stopping({SETTING: None}) is None


def test_an_attribute_that_changed_is_asked_to_the_end(weights):
    changed = weights.fitted({"colour": "c2", "material": "m1"})
    assert early_stop(changed, "colour", 0.05) is None
    assert early_stop(changed, "material", 0.05) is not None
    assert weights.fitted({"colour": "c1", "material": "m1"}) is weights
    assert recorded_stopping(changed.settings).attributes == ("material",)


def test_an_attribute_kept_of_other_weights_is_asked_to_the_end(weights):
    live = replace(equal_weights(MEMBERS), default=Parameters((2.0, 1.0, 1.0)))
    kept = keep_attributes(weights, live, ["material"])
    assert early_stop(kept, "colour", 0.05) is not None
    assert early_stop(kept, "material", 0.05) is None


def test_attributes_outside_the_catalogue_share_what_was_learned():
    plain = equal_weights(MEMBERS, {OUTSIDE: "o"})
    outside = replace(plain, attributes={OUTSIDE: plain.default})
    known = with_stopping(
        outside, Stopping(*[getattr(LEARNED, n) for n in ("change", "limits", "lines")], (OUTSIDE,), 9, 3)
    )
    assert stopping_of(known, "anything") is not None
    assert stopping_of(outside, "anything") is None


def test_a_low_chance_of_a_change_ends_the_asking():
    parameters = Parameters((1.0, 0.9, 0.8, 0.7))
    ballots = [("red", 0), ("red", 0), None, None]
    assert not is_settled(
        PLAIN, parameters, [("red", 0), None, None, None], early=EarlyStop(LEARNED.change, 0.0)
    )
    never, always = EarlyStop((50.0, *[0.0] * 3), 0.4), EarlyStop((-50.0, *[0.0] * 3), 0.01)
    assert not is_settled(PLAIN, parameters, ballots[:1] + [None] * 3, early=never)
    assert is_settled(PLAIN, parameters, ballots[:1] + [None] * 3, early=always)
    # Without an answer, or a quorum, there is nothing to stop with.
    assert not is_settled(PLAIN, parameters, [NOT_ASKED, None, None, None], early=always)
    assert not is_settled(QuorumRule(min_members=2), parameters, ballots[:1] + [None] * 3, early=always)
    assert not is_settled(PLAIN, parameters, [("[]", 0), None, None, None], form="values", early=always)


def test_the_confidence_of_some_members_is_put_on_the_scale_of_all(weights):
    stopping = stopping_of(weights, "colour")
    assert confidence_at_hand(stopping, 1, 3, 0.9) == pytest.approx(0.75)
    assert confidence_at_hand(stopping, 3, 3, 0.9) == 0.9
    assert confidence_at_hand(None, 1, 3, 0.9) == 0.9


def test_weights_without_it_are_read_as_before():
    plain = equal_weights(MEMBERS)
    assert SETTING not in plain.settings
    assert weights_file.loads(weights_file.dumps(plain)) == plain
    assert isinstance(plain, Weights)
