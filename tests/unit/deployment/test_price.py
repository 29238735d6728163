# SPDX-License-Identifier: Apache-2.0
"""Prices and budgets in deploy.yaml: read, refused, rendered, and remarked on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment

import quorum
from quorum.deployment.load import DeploymentError
from quorum.repository.configs import member_config, settings_of, vote_config
from quorum_contract import Price
from quorum_contract.usage import FREE


def load(folder: Path, members: dict[str, Any], **more: Any) -> quorum.Deployment:
    return quorum.load_deployment(write_deployment(folder, members, **more))


def test_prices_are_rendered_into_the_vote_alone(tmp_path: Path) -> None:
    spec = load(tmp_path, {"a": {"price": {"per_call": 0.5}}, "b": {}}, currency="EUR")
    assert spec.prices == {"a": Price(per_call=0.5), "b": None}
    prices = json.loads(settings_of(vote_config(spec, [1])))["prices"]
    assert [price and Price(**price) for price in prices] == [Price(per_call=0.5), None]
    for model, members in spec.models().items():
        assert "price" not in settings_of(member_config(spec, model, members))


def test_a_member_with_a_budget_in_money_knows_its_price(tmp_path: Path) -> None:
    spec = load(tmp_path, {"a": {"price": {"per_call": 0.5}, "budget": {"per_day": 3}}})
    (settings,) = json.loads(settings_of(member_config(spec, "a", spec.members)))["members"]
    assert settings["budget"]["per_day"] == 3.0
    assert Price(**settings["price"]) == Price(per_call=0.5)


def test_members_without_an_llm_are_free(tmp_path: Path) -> None:
    products = tmp_path / "products.jsonl"
    products.write_text('{"text": "red shoe", "attributes": {"color": "red"}}\n', "utf-8")
    found = {"runtime": "catalogue", "options": {"products": "products.jsonl"}}
    spec = load(tmp_path, {"free": found, "dear": {**found, "price": {"per_call": 2}}, "llm": {}})
    assert spec.prices == {"free": FREE, "dear": Price(per_call=2.0), "llm": None}


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ({"price": {"per_call": -1}}, "per_call"),
        ({"price": {"per_token": 1}}, "per_token"),
        ({"price": {"per_second": float("inf")}}, "per_second"),
        ({"price": {"per_call": 5e-324}}, "per_call"),
        ({"price": {"per_call": 1e308}}, "per_call"),
        ({"budget": {}}, "a budget limits nothing"),
        ({"budget": {"per_day": 1}}, "give the member a `price`"),
        ({"budget": {"calls_per_day": 0}}, "calls_per_day"),
        ({"price": {}, "budget": {"per_minute": 0}}, "per_minute"),
    ],
)
def test_what_is_no_price_or_budget_is_refused(tmp_path: Path, member: dict[str, Any], words: str) -> None:
    with pytest.raises(DeploymentError, match=words):
        load(tmp_path, {"a": member})


@pytest.mark.parametrize(
    ("price", "is_counted"),
    [
        ({}, False),
        ({"per_1k_answer_tokens": 0}, False),
        ({"per_call": 0.1}, True),
        ({"per_1k_prompt_tokens": 1}, True),
        ({"per_1k_cached_tokens": 1}, True),
        ({"per_second": 1}, True),
    ],
)
def test_a_budget_in_money_that_cannot_be_counted_is_remarked(
    tmp_path: Path, price: dict[str, Any], is_counted: bool
) -> None:
    remarks = quorum.validate(load(tmp_path, {"a": {"price": price, "budget": {"per_day": 1}}}))
    assert [remark.split(":")[0] for remark in remarks] == ([] if is_counted else ["a"])
    assert is_counted or "its budget in money limits nothing" in remarks[0]


def test_a_member_without_an_llm_has_no_tokens_for_a_budget(tmp_path: Path) -> None:
    (tmp_path / "products.jsonl").write_text('{"text": "red", "attributes": {"color": "red"}}\n', "utf-8")
    found = {"runtime": "catalogue", "options": {"products": "products.jsonl"}, "budget": {"per_day": 1}}
    (remark,) = quorum.validate(load(tmp_path, {"a": {**found, "price": {"per_1k_prompt_tokens": 1}}}))
    assert remark.startswith("a: its budget in money limits nothing")


def test_some_prices_and_none_of_others_is_remarked(tmp_path: Path) -> None:
    assert quorum.validate(load(tmp_path, {"a": {}, "b": {}})) == ()
    assert quorum.validate(load(tmp_path, {"a": {"price": {}}, "b": {"price": {"per_call": 1}}})) == ()
    (remark,) = quorum.validate(load(tmp_path, {"a": {"price": {}}, "b": {}, "c": {}}))
    assert remark.startswith("no price of b, c, where other members have one")
