# SPDX-License-Identifier: Apache-2.0
"""Attributes that new weights keep are decided as by the live ones, with a confidence of one kind."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from quorum.decision.answer_kinds import parameters_for
from quorum.decision.cell import Parameters, decide_one
from quorum.decision.evidence import Coefficients, Evidence
from quorum.decision.kept import keep_attributes, kept_attributes, not_calibrated
from quorum.decision.scores import LEVELS
from quorum.decision.weights import Weights, WeightsError, dumps, equal_weights, group_key, loads

MEMBERS = ("a", "b", "c")
SCORES = tuple((0.1 * j,) * LEVELS for j in range(3))
CALIBRATED = Weights(
    "loglinear", MEMBERS, Parameters((2.0, 1.0, 0.5), -0.5, 0.25, 0.1),
    {"brand": Parameters((0.1, 3.0, 0.2), 0.0, 0.5), "size": Parameters((1.0, 1.0, 4.0), 0.0, 0.5)},
    {group_key("a|b", "brand"): Parameters((5.0, 0.0, 0.0), 0.0, 0.5)},
    confidence="calibrated", provenance={"gold_labels": 100},
)  # fmt: skip
AGREEMENT = Weights(
    "em", MEMBERS, Parameters((1.0, 1.0, 1.0), 0.3),
    {"brand": Parameters((2.0, 1.0, 1.0), 0.1, None, 0.2, SCORES)},
    {
        group_key("c", "brand"): Parameters((0.0, 1.0, 1.0)),
        group_key("x|brand", "size"): Parameters((1.0, 1.0, 1.0)),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("new", "live"),
    [
        (CALIBRATED, AGREEMENT), (AGREEMENT, CALIBRATED), (CALIBRATED, equal_weights(MEMBERS)),
        (CALIBRATED, CALIBRATED), (AGREEMENT, AGREEMENT),
    ],
)  # fmt: skip
def test_kept_attributes_are_decided_as_by_the_live_weights_and_others_as_by_the_new(
    new: Weights, live: Weights
) -> None:
    mixed = loads(dumps(keep_attributes(new, live, ["brand"])))
    values = [("x", 0), ("y", 0), ("x y", 0), ("n/a", 0), ("", 1)]
    for ballots in itertools.product(values, repeat=3):
        for category in ("", "c", "a|b", "x|brand"):
            for scores in ((), (-0.1, -2.0, None)):
                kept = decide_one(mixed.parameters("brand", category), ballots, scores)
                assert kept[0] == decide_one(live.parameters("brand", category), ballots, scores)[0]
            for name in ("size", "colour"):
                assert mixed.parameters(name, category) == new.parameters(name, category)
    assert mixed.confidence == new.confidence
    assert kept_attributes(mixed) == ("brand",)
    origin = mixed.provenance["kept"]["brand"]
    assert origin["content_hash"] == live.content_hash
    scaled = new.confidence == "calibrated" != live.confidence
    assert ("confidence" in origin) == scaled
    assert mixed.provenance.get("gold_labels") == new.provenance.get("gold_labels")


def test_agreement_is_put_on_the_scale_of_the_calibrated_weights() -> None:
    mixed = keep_attributes(CALIBRATED, equal_weights(MEMBERS), ["brand", "colour"])
    assert sum(mixed.attributes["brand"].weights) == pytest.approx(3.3)
    assert mixed.attributes["brand"].none_bias == 0.5
    assert mixed.attributes["colour"].weights == pytest.approx((3.5 / 3,) * 3)
    assert mixed.attributes["colour"].none_bias == 0.25
    assert mixed.groups == {}


def test_what_was_kept_before_stays_named_and_other_members_are_refused() -> None:
    twice = keep_attributes(keep_attributes(CALIBRATED, AGREEMENT, ["brand"]), AGREEMENT, ["size"])
    assert kept_attributes(twice) == ("brand", "size")
    with pytest.raises(WeightsError, match="these are for a, b, c, the live ones for a, b"):
        keep_attributes(CALIBRATED, equal_weights(["a", "b"]), ["brand"])


TEXT = {"any_case": (0.5, 0.5, 0.7)}
OTHER = {"any_case": (0.5, 0.5, 0.2)}
BALLOTS = [("red", 0), ("blue", 0), ("n/a", 0)]


def decided(weights: Weights, attribute: str) -> tuple[str, float]:
    text = Evidence(weights.evidence).of("a blue shoe") if weights.evidence else None
    return decide_one(weights.parameters(attribute), BALLOTS, (), text)


@pytest.mark.parametrize(("new", "live"), [(TEXT, {}), ({}, TEXT), (TEXT, TEXT)])
def test_texts_count_as_they_did_for_kept_attributes(new: Coefficients, live: Coefficients) -> None:
    fresh, running = replace(CALIBRATED, evidence=new), replace(CALIBRATED, evidence=live)
    mixed = loads(dumps(keep_attributes(fresh, running, ["brand"])))
    assert decided(mixed, "brand") == decided(running, "brand")
    for name in ("size", "colour"):
        assert decided(mixed, name) == decided(fresh, name)
    if new != live:
        assert decided(fresh, "brand") != decided(running, "brand")


def test_attributes_of_other_text_evidence_cannot_be_kept() -> None:
    with pytest.raises(WeightsError, match=r"brand cannot be kept.*--no-evidence"):
        keep_attributes(replace(CALIBRATED, evidence=TEXT), replace(CALIBRATED, evidence=OTHER), ["brand"])


def test_a_category_of_other_text_evidence_cannot_be_kept_either() -> None:
    plain = Parameters((1.0, 2.0, 1.0), 0.0, 0.5, text=False)
    groups = {group_key("c", "brand"): Parameters((5.0, 0.0, 0.0), 0.0, 0.5)}
    live = replace(CALIBRATED, evidence=OTHER, attributes={"brand": plain}, groups=groups)
    with pytest.raises(WeightsError, match=r"brand cannot be kept.*--no-evidence"):
        keep_attributes(replace(CALIBRATED, evidence=TEXT), live, ["brand"])


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_texts_count_as_they_did_however_often_an_attribute_is_kept(scale: float) -> None:
    live = replace(CALIBRATED, evidence=TEXT)
    heavy = Parameters((scale, scale, scale), 0.0, 0.75)
    first = loads(dumps(keep_attributes(AGREEMENT, live, ["brand"])))
    new = replace(CALIBRATED, default=heavy, attributes={})
    second = loads(dumps(keep_attributes(new, first, ["brand"])))
    titles = ["a blue shoe", "red, blue and red", "shoe", ""]
    for title, ballots in itertools.product(titles, itertools.product(BALLOTS, repeat=3)):
        values = {
            decide_one(own.parameters("brand"), ballots, (), Evidence(own.evidence).of(title))[0]
            for own in (live, first, second)
        }
        assert len(values) == 1
    assert second.parameters("brand").none_bias == 0.75
    assert not_calibrated(second) == ("brand",)


def test_a_confidence_that_was_not_calibrated_does_not_become_so_when_it_is_kept_again() -> None:
    once = keep_attributes(CALIBRATED, AGREEMENT, ["brand"])
    twice = keep_attributes(CALIBRATED, once, ["brand", "size"])
    assert not_calibrated(twice) == ("brand",)
    assert not_calibrated(keep_attributes(AGREEMENT, once, ["brand"])) == ()
    back = keep_attributes(AGREEMENT, once, ["brand"])
    assert not_calibrated(keep_attributes(CALIBRATED, back, ["brand"])) == ("brand",)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("evidence", [{}, TEXT])
def test_weights_of_an_older_schema_that_keep_attributes_become_weights_of_the_newest(
    version: int, evidence: Coefficients
) -> None:
    older = replace(CALIBRATED, schema_version=version, catalogue="sha256:whole")
    if version == 2:
        older = replace(older, default=replace_scores(older.default))
    served = {"": "sha256:open", "brand": "sha256:b"}
    for name in ("brand", "size"):
        live = replace(CALIBRATED, evidence=evidence, attributes={"brand": CALIBRATED.attributes["brand"]})
        mixed = loads(dumps(keep_attributes(older, live, [name], served)))
        assert mixed.schema_version == 3
        assert mixed.catalogue == served
        assert decided(mixed, name) == decided(live, name)
        assert decided(mixed, "colour") == decided(older, "colour")
    assert keep_attributes(older, live, ["size"]).catalogue is None


def replace_scores(parameters: Parameters) -> Parameters:
    return Parameters(parameters.weights, parameters.na_bias, parameters.none_bias, scores=SCORES)


def test_a_kept_attribute_that_the_live_weights_were_not_learned_for_keeps_equal_weights() -> None:
    new = replace(CALIBRATED, settings={"kinds": {"brand": "spans", "size": "values"}})
    mixed = keep_attributes(new, AGREEMENT, ["brand"])
    assert mixed.settings["kinds"] == {"size": "values"}
    assert parameters_for(mixed, "brand", "", "spans") == parameters_for(AGREEMENT, "brand", "", "spans")
