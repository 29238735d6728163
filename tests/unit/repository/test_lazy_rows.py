# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.deployment import set_state, write_deployment

from quorum.decision.cell import Parameters
from quorum.decision.stopping import Stopping, with_stopping
from quorum.decision.weights import Weights, equal_weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import parse_config
from quorum.repository.lazy_rows import lazy_rows, rows_by_weight, rows_of_members
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum_contract import CANARY, LAZY, LAZY_CANARY, STABLE

NAMES = ("a", "b", "c")
PER_CALL = {"per_call": 0.01}


def spec_of(path: Path, members: dict[str, Any], **more: Any) -> Deployment:
    return load_deployment(write_deployment(path, members, **{"lazy": {}, **more}))


def plain(path: Path, count: int = 3, **more: Any) -> Deployment:
    return spec_of(path, {name: {} for name in "abcde"[:count]}, **more)


def weighing(*numbers: float, attributes: dict[str, Parameters] | None = None, **more: Any) -> Weights:
    names = tuple("abcde"[: len(numbers)])
    return Weights(
        "majority", names, Parameters(tuple(map(float, numbers))), attributes=attributes or {}, **more
    )


@pytest.mark.parametrize(
    ("numbers", "rows"),
    [
        ((1, 1, 1), [["a", "b"], ["c"]]),
        ((1, 1, 1, 1, 1), [["a", "b", "c"], ["d"], ["e"]]),
        ((1, 3, 1), [["b"], ["a"], ["c"]]),
        ((1, 2, 1.5), [["b", "c"], ["a"]]),
        ((0, 0, 0), [["a"], ["b"], ["c"]]),
        ((1, 1), [["a"], ["b"]]),
        ((1,), [["a"]]),
    ],
)
def test_the_first_row_is_the_shortest_that_could_settle_an_attribute(
    tmp_path: Path, numbers: tuple[float, ...], rows: list[list[str]]
) -> None:
    assert rows_by_weight(plain(tmp_path, len(numbers)), weighing(*numbers)) == rows


def test_one_attribute_that_a_shorter_row_could_settle_is_enough(tmp_path: Path) -> None:
    heavy = {"color": Parameters((5.0, 1.0, 1.0))}
    rows = rows_by_weight(plain(tmp_path), weighing(1, 1, 1, attributes=heavy))
    assert rows == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(("risk", "first"), [(0.0, ["a", "b"]), (0.01, ["a", "b"]), (0.05, ["a"])])
def test_a_flip_risk_makes_the_first_row_shorter(tmp_path: Path, risk: float, first: list[str]) -> None:
    learned = Stopping((-2.0, 0.0, 0.0, 0.0), ((0.01, 0.1), (0.05, 0.2)), {}, ("color",), 900, 300)
    spec = plain(tmp_path, lazy={"flip_risk": risk}, attributes={"color": {}})
    assert rows_by_weight(spec, with_stopping(weighing(1, 1, 1), learned))[0] == first


def test_the_quorum_of_the_deployment_counts(tmp_path: Path) -> None:
    spec = plain(tmp_path, vote={"min_members": 2})
    assert rows_by_weight(spec, weighing(1, 9, 1)) == [["b", "a"], ["c"]]


def test_scores_count_at_their_best(tmp_path: Path) -> None:
    scores = ((0.0,) * 9, (0.0,) * 8 + (5.0,), (0.0,) * 9)
    weights = Weights("loglinear", NAMES, Parameters((1.0, 1.0, 1.0), scores=scores))
    assert rows_by_weight(plain(tmp_path), weights) == [["b"], ["a"], ["c"]]


def test_cheap_members_are_asked_first(tmp_path: Path) -> None:
    members: dict[str, Any] = {
        "a": {"price": PER_CALL},
        "b": {"price": {"per_1k_prompt_tokens": 0.001}},
        "c": {},
    }
    assert rows_by_weight(spec_of(tmp_path, members), weighing(1.5, 1, 1)) == [["c", "b"], ["a"]]
    dear = {**members, "c": {"price": {"per_second": 1.0}}}
    assert rows_by_weight(spec_of(tmp_path, dear), weighing(1.5, 1, 1)) == [["b", "a"], ["c"]]


def test_without_prices_a_member_without_an_llm_is_asked_first(tmp_path: Path) -> None:
    encoder = {"runtime": "encoder", "options": {"model": "tuned"}}
    spec = spec_of(tmp_path, {"a": {}, "b": encoder, "c": {}})
    assert rows_by_weight(spec, weighing(1.2, 1, 1)) == [["b", "a"], ["c"]]
    assert rows_by_weight(spec, weighing(1.2, 2.5, 1)) == [["b"], ["a"], ["c"]]


def test_prices_that_are_all_the_same_change_nothing(tmp_path: Path) -> None:
    same = spec_of(tmp_path, {name: {"price": PER_CALL} for name in NAMES})
    assert rows_by_weight(same, weighing(1, 3, 2)) == rows_by_weight(plain(tmp_path), weighing(1, 3, 2))


def test_members_that_share_an_llm_stand_in_one_row(tmp_path: Path) -> None:
    def lora(name: str) -> dict[str, Any]:
        return {"runtime": "hf", "options": {"model": "base", "lora": name}}

    spec = spec_of(tmp_path, {"a": lora("one"), "b": {}, "c": lora("two")})
    assert rows_by_weight(spec, weighing(1, 0.5, 1)) == [["quorum_shared_a"], ["b"]]
    listed = spec_of(
        tmp_path, {"a": lora("one"), "b": {}, "c": lora("two")}, lazy={"rows": [["b"], ["c", "a"]]}
    )
    assert lazy_rows(listed, LAZY, 1, listed.repository_path) == [["b"], ["quorum_shared_a"]]


def rendered_rows(spec: Deployment, channel: str) -> list[str]:
    text = (spec.repository_path / channel / "config.pbtxt").read_text("utf-8")
    return [step.model_name for step in parse_config(text).ensemble_scheduling.step]


def test_each_channel_has_the_rows_of_its_version(tmp_path: Path) -> None:
    spec = plain(tmp_path)
    render(spec)
    vote = "quorum_vote"
    assert rendered_rows(spec, LAZY) == ["quorum_gate", "a", "b", vote, "c", vote]
    store = Store(spec.repository_path)
    for version, numbers in ((2, (1, 1, 9)), (3, (1, 9, 1))):
        weights = weighing(*numbers, catalogue=spec.catalogue().hashes)
        store.add_version(version, weights)
    set_state(spec, [1, 2, 3], stable=2, canary=3)
    assert difference(spec).is_clean
    assert rendered_rows(spec, LAZY) == ["quorum_gate", "c", vote, "a", vote, "b", vote]
    assert rendered_rows(spec, LAZY_CANARY) == ["quorum_gate", "b", vote, "a", vote, "c", vote]
    pins = store.state().pins
    assert pins == {STABLE: 2, CANARY: 3}
    for channel, version in ((LAZY, 2), (LAZY_CANARY, 3)):
        config = parse_config((spec.repository_path / channel / "config.pbtxt").read_text("utf-8"))
        votes = [step.model_version for step in config.ensemble_scheduling.step if step.model_name == vote]
        assert set(votes) == {version}


def test_while_the_weights_are_damaged_the_rows_stay(tmp_path: Path) -> None:
    spec = plain(tmp_path)
    render(spec)
    store = Store(spec.repository_path)
    store.add_version(2, weighing(1, 1, 9, catalogue=spec.catalogue().hashes))
    set_state(spec, [1, 2], stable=2)
    store.weights_path(2).write_text("{", encoding="utf-8")
    assert lazy_rows(spec, LAZY, 2, store.path) == [["c"], ["a"], ["b"]]
    assert difference(spec).names == []
    (spec.repository_path / LAZY / "config.pbtxt").write_text("nonsense", encoding="utf-8")
    assert lazy_rows(spec, LAZY, 2, store.path) == [["a", "b"], ["c"]]


def test_weights_of_other_members_choose_no_rows(tmp_path: Path) -> None:
    spec = plain(tmp_path)
    render(spec)
    Store(spec.repository_path).add_version(2, equal_weights(["x", "y"]))
    assert lazy_rows(spec, LAZY, 2, spec.repository_path) == [["a", "b"], ["c"]]


def test_ways_of_asking_change_the_vote_and_no_member(tmp_path: Path) -> None:
    files = dict[str, str]()
    for lazy in ({}, {"whole_questions": False}, {"flip_risk": 0.02}):
        spec = plain(tmp_path, lazy=lazy)
        render(spec)
        fresh = {p.parent.name: p.read_text("utf-8") for p in spec.repository_path.glob("*/config.pbtxt")}
        if files:
            assert [name for name in fresh if fresh[name] != files[name]] == ["quorum_vote"]
        files = files or fresh


def test_without_the_section_nothing_is_rendered_otherwise(tmp_path: Path) -> None:
    without = load_deployment(write_deployment(tmp_path, {name: {} for name in NAMES}))
    render(without)
    before = {p.name: p.read_text("utf-8") for p in without.repository_path.glob("*/config.pbtxt")}
    assert not any("OPEN" in text or "optional" in text for text in before.values())
    assert not (without.repository_path / LAZY).exists()
    render(plain(tmp_path))
    assert (without.repository_path / LAZY).exists()
    again = load_deployment(write_deployment(tmp_path, {name: {} for name in NAMES}))
    render(again)
    assert not (without.repository_path / LAZY).exists()
    assert {p.name: p.read_text("utf-8") for p in again.repository_path.glob("*/config.pbtxt")} == before


def test_the_members_of_rows_are_named_by_channel(tmp_path: Path) -> None:
    rows = [["b", "c"], ["a"]]
    spec = plain(tmp_path, lazy={"rows": rows})
    pins = {STABLE: 1, CANARY: 1}
    assert rows_of_members(spec, pins, spec.repository_path) == {LAZY: rows, LAZY_CANARY: rows}
    eager = load_deployment(write_deployment(tmp_path, {name: {} for name in NAMES}))
    assert rows_of_members(eager, pins, spec.repository_path) == {}
