# SPDX-License-Identifier: Apache-2.0
"""Which parameters decide an answer: those learned for its kind, else equal weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorum.decision.answer_kinds import AnswerKind, is_learned, parameters_for
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, equal_weights

MEMBERS = ("a", "b", "c")
CATALOGUE = {"": "sha256:open", "color": "sha256:c", "entities": "sha256:e"}
OWN, GROUP = Parameters((3.0, 1.0, 1.0), -0.5, 1.0), Parameters((1.0, 3.0, 1.0), -0.5, 1.0)
VALUES = Weights(
    "loglinear", MEMBERS, Parameters((1.0, 2.0, 3.0), -5.4, 1.0), catalogue=CATALOGUE, confidence="calibrated"
)
BOTH = replace(
    VALUES,
    attributes={"entities": OWN},
    groups={"shoes|entities": GROUP},
    settings={"kinds": {"entities": "spans", "bad": "songs", "lost": "spans"}},
)
EQUAL = Parameters((1.0, 1.0, 1.0), text=False)


@pytest.mark.parametrize("kind", ["spans", "values", "text"])
def test_what_was_not_learned_has_equal_weights_and_no_bias(kind: AnswerKind) -> None:
    assert parameters_for(VALUES, "entities", "", kind) == EQUAL
    assert parameters_for(replace(VALUES, attributes={"entities": OWN}), "entities", "", kind) == EQUAL


def test_what_was_learned_as_its_kind_has_its_own_parameters() -> None:
    assert parameters_for(BOTH, "entities", "", "spans") is OWN
    assert parameters_for(BOTH, "entities", "shoes", "spans") is GROUP
    assert parameters_for(BOTH, "entities", "", "values") == EQUAL
    assert parameters_for(BOTH, "entities", "", "value") == EQUAL
    assert parameters_for(BOTH, "lost", "", "spans") == EQUAL, "its own were left out, as its types changed"
    assert parameters_for(BOTH, "bad", "", "value") == EQUAL


@pytest.mark.parametrize("kind", ["value", "label"])
def test_values_and_labels_share_the_default(kind: AnswerKind) -> None:
    assert parameters_for(VALUES, "color", "", kind) is VALUES.default
    assert parameters_for(BOTH, "color", "shoes", kind) is BOTH.default


def test_a_remark_names_what_equal_weights_decide() -> None:
    kinds: dict[str, AnswerKind] = {"entities": "spans", "color": "label"}
    found = VALUES.check_fits(MEMBERS, CATALOGUE, kinds=kinds)
    assert found.equal == ("entities",)
    assert str(found) == ("entities has equal weights, as these were not learned for its kind of answer")
    assert found.to_json()["equal"] == ["entities"]
    assert not BOTH.check_fits(MEMBERS, CATALOGUE, kinds=kinds)
    changed = BOTH.check_fits(MEMBERS, CATALOGUE | {"entities": "sha256:new", "brand": "b"}, kinds=kinds)
    assert str(changed) == (
        "entities changed and brand is new in the catalogue since these weights were learned: "
        "brand uses the weights of all attributes; entities has equal weights, as these were not learned "
        "for its kind of answer"
    )
    assert not equal_weights(MEMBERS, CATALOGUE).check_fits(MEMBERS, CATALOGUE, kinds=kinds)


def test_is_learned_looks_at_the_form() -> None:
    assert is_learned(BOTH, "entities", "", "spans")
    assert is_learned(VALUES, "anything", "", "label")
    assert not is_learned(VALUES, "anything", "", "text")
