# SPDX-License-Identifier: Apache-2.0
"""What a run takes, before it begins: by what a sample took, else by the prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment

import quorum
from quorum.bulk.dry_run import in_words
from quorum.bulk.estimate import Request, Sample, expect
from quorum_contract import Spent

LLM = {"runtime": "openvino", "options": {"model": "m"}}
REQUESTS = [Request(f"red shoe {number}", "", ["color", "size"]) for number in range(100)]


def deployment(folder: Path, **prices: Any) -> quorum.Deployment:
    members = {name: {**LLM, **({"price": price} if price else {})} for name, price in prices.items()}
    return quorum.load_deployment(write_deployment(folder, members, currency="EUR"))


def answer_of(request: Request) -> str:
    return "x" * 40


def test_a_sample_that_was_asked_says_what_the_run_takes(tmp_path: Path) -> None:
    spec = deployment(tmp_path, a={"per_call": 9}, b=None)
    spent = [Spent(2, 300, 20, 0, 0.5, 0.01), Spent(2, 320, 20, 0, 0.5, 0.02)]
    found = expect(spec, REQUESTS, answer_of, Sample([1.0, 2.0], spent), concurrency=4)
    assert (found.requests, found.sampled, found.llms) == (100, 2, 2)
    assert found.calls is not None
    assert (found.calls.low, found.calls.middle, found.calls.high) == (200, 200, 200)
    assert found.prompt_tokens is not None
    assert found.prompt_tokens.middle == 31_000
    assert found.answer_tokens is not None
    assert found.answer_tokens.middle == 2_000
    assert found.cost is not None
    assert found.cost.low is not None
    assert found.cost.middle == pytest.approx(1.5)
    assert found.cost.low < 1.5 < (found.cost.high or 0)
    assert found.seconds is not None
    assert found.seconds.middle == pytest.approx(37.5)
    words = in_words(found, "EUR")
    assert words.startswith("100 listings; about 200 calls; about 31 000 (")
    assert "cost about 1.50 EUR" in words
    assert json.dumps(found.to_json(), allow_nan=False)


def test_without_a_server_prompts_and_prices_say_it(tmp_path: Path) -> None:
    price = {"per_call": 0.01, "per_1k_answer_tokens": 1.0}
    found = expect(deployment(tmp_path, a=price, b=price), REQUESTS, answer_of, Sample(), concurrency=4)
    assert found.sampled == 0
    assert found.seconds is None
    assert found.cost is not None
    # 40 characters are 10 tokens.
    assert found.cost.middle == pytest.approx(100 * 2 * (0.01 + 0.01))
    assert found.prompt_tokens is not None
    assert found.prompt_tokens.middle > 100 * 2 * 50


@pytest.mark.parametrize("price", [None, {"per_second": 1.0}])
def test_what_has_no_price_or_takes_seconds_has_no_cost(tmp_path: Path, price: Any) -> None:
    spec = deployment(tmp_path, a={"per_call": 1}, b=price)
    assert expect(spec, REQUESTS, answer_of, Sample(), concurrency=4).cost is None


def test_a_cost_that_the_server_does_not_know_is_not_guessed(tmp_path: Path) -> None:
    spec = deployment(tmp_path, a={"per_call": 1}, b={"per_call": 1})
    sample = Sample([1.0, 1.0], [Spent(2, 1, 1, 0, 1, 2.0), Spent(2, None, None, None, None, None)])
    found = expect(spec, REQUESTS, answer_of, sample, concurrency=4)
    assert found.cost is None
    assert found.prompt_tokens is not None, "of the prompts, as the server does not say all"


def test_nothing_takes_nothing(tmp_path: Path) -> None:
    found = expect(deployment(tmp_path, a=None), [], answer_of, Sample(), concurrency=4)
    assert found == quorum.Expected(requests=0)


def test_a_long_run_is_told_in_hours(tmp_path: Path) -> None:
    spec = deployment(tmp_path, a=None)
    found = expect(spec, REQUESTS, answer_of, Sample([7200.0, 7200.0]), concurrency=10)
    assert in_words(found).endswith("about 20 h by the first requests")
