# SPDX-License-Identifier: Apache-2.0
"""Weights decide made-up votes before they serve: rules that cannot are refused, all others pass."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters
from quorum.decision.evidence import FEATURES
from quorum.decision.patterns import MAX_MEMBERS
from quorum.decision.scores import LEVELS
from quorum.decision.trial import check_decisions, fault_of
from quorum.decision.weights import Weights, WeightsError, equal_weights, group_key

NAN, INFINITE = math.nan, math.inf
GOOD = Parameters((2.0, 1.0, 0.0), -0.5, 0.75, 0.25, ((-1.0,) * LEVELS, (0.0,) * LEVELS, (9.0,) * LEVELS))


@pytest.mark.parametrize(
    "rule",
    [
        Parameters((1e308, 1e308, 1e308)),
        Parameters((1e308, 1e308, 1e308), 0.0, 0.5),
        Parameters((NAN, 1.0, 1.0)),
        Parameters((1.0, 1.0, NAN)),
        Parameters((1.0, INFINITE, 1.0)),
        Parameters((1.0, 1.0, 1.0), NAN, 0.5),
        Parameters((1.0, 1.0, 1.0), INFINITE, 0.5),
        Parameters((1.0, 1.0, 1.0), 0.0, NAN),
        Parameters((1.0, 1.0, 1.0), 0.0, INFINITE),
        Parameters((1.0, 1.0, 1.0), 0.0, 0.5, NAN),
        Parameters((1.0, 1.0, 1.0), 0.0, 0.5, INFINITE),
        Parameters((1e308, 1.0, 1.0), 0.0, None, 0.0, ((1e308,) * LEVELS,) * 3),
        Parameters((1.0, 1.0, 1.0), 0.0, 0.5, 0.0, ((0.0,) * LEVELS, (0.0,) * LEVELS, (INFINITE,) * LEVELS)),
        Parameters((1.0, 1.0, 1.0), 0.0, 0.5, 0.0, ((0.0,) * (LEVELS - 1) + (INFINITE,),) * 3),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_number_is_found(rule: Parameters) -> None:
    assert re.search(r"makes '.*' with confidence|fail with ", fault_of(rule))


@pytest.mark.parametrize(
    "rule",
    [
        GOOD,
        Parameters((0.0, 0.0, 0.0)),
        Parameters((0.0, 0.0, 0.0), -1.0, -2.0, -3.0),
        Parameters((5e-324, 1e300, 1.0), -1e300),
        Parameters((1.0,)),
        Parameters((1.0,) * MAX_MEMBERS),
        Parameters((1.0, 1.0), 0.0, 1e6),
        Parameters((0.1,) * 7),
    ],
    ids=str,
)
def test_a_rule_that_decides_is_let_pass(rule: Parameters) -> None:
    assert fault_of(rule) == ""


@pytest.mark.parametrize("place", ["default", "attributes['gender']", "groups['shoes|gender']"])
def test_the_rule_that_does_not_decide_is_named(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    bad = Parameters((1e308,) * 3, 0.0, 0.5)
    rules = dict.fromkeys(["default", "attributes['gender']", "groups['shoes|gender']"], GOOD) | {place: bad}
    default, attribute, group = rules.values()
    # As if the check of the numbers let them pass.
    monkeypatch.setattr(weights_file, "_check_parameters", lambda *_: None)
    weights = Weights(
        "loglinear",
        ("a", "b", "c"),
        default,
        {"colour": GOOD, "gender": attribute},
        {group_key("shoes", "gender"): group},
        confidence="calibrated",
    )
    with pytest.raises(WeightsError) as caught:
        check_decisions(weights)
    assert str(caught.value).startswith(f"{place} decides no votes right: of the votes [")
    assert str(caught.value).endswith("learn the weights again")


def test_evidence_that_makes_no_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_file, "check_evidence", lambda _: None)
    weights = replace(
        equal_weights(["a", "b", "c"]),
        confidence="calibrated",
        default=GOOD,
        evidence=dict.fromkeys(FEATURES, (0.5, 2.0, 1.0)),
    )
    check_decisions(weights)
    for numbers in ((0.0, 1.0, NAN), (0.0, 1.0, INFINITE)):
        with pytest.raises(WeightsError, match=r"^default decides no votes right"):
            check_decisions(replace(weights, evidence={"candidates": numbers}))


@pytest.mark.parametrize("schema", [1, 2])
def test_weights_of_every_schema_pass(schema: int) -> None:
    check_decisions(weights_file.load(Path(__file__).parent / f"data/weights_schema_{schema}.json"))
