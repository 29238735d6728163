# SPDX-License-Identifier: Apache-2.0
"""Prices, and what answers take."""

from __future__ import annotations

import pytest

from quorum_contract import Price, Spent
from quorum_contract.usage import CALLED, FREE, add_up

CALL = Spent(1, 2000, 100, 500, 0.5)


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        (Price(), 0.0),
        (Price(per_call=0.3), 0.3),
        (Price(per_1k_prompt_tokens=0.5), 1.0),
        (Price(per_1k_answer_tokens=4.0), 0.4),
        (Price(per_second=3.0), 1.5),
        (Price(0.3, 0.5, 4.0, 3.0), 3.2),
        (Price(per_1k_prompt_tokens=0.5, per_1k_cached_tokens=0.1), 0.75 + 0.05),
        (Price(per_1k_prompt_tokens=0.5, per_1k_cached_tokens=0.0), 0.75),
        (Price(per_1k_cached_tokens=0.1), 0.05),
    ],
)
def test_the_parts_of_a_price_add_up(price: Price, cost: float) -> None:
    assert price.of(CALL) == pytest.approx(cost)


def test_more_cached_tokens_than_a_prompt_has_cost_as_all_of_it() -> None:
    price = Price(per_1k_prompt_tokens=1.0, per_1k_cached_tokens=0.1)
    assert price.of(Spent(1, 1000, 0, 9000)) == pytest.approx(0.1)


def test_what_is_known_of_a_call_costs_at_least() -> None:
    price = Price(0.5, 1.0, 2.0, 3.0, 0.1)
    assert price.of_known(CALLED) == 0.5
    assert price.of_known(Spent(1, 1000, None, None, 1.0)) == 4.5
    assert price.of_known(CALL) == price.of(CALL)


def test_what_was_not_called_costs_nothing() -> None:
    assert Price(1, 1, 1, 1).of(Spent()) == 0.0


def test_an_unknown_figure_counts_only_where_it_has_a_price() -> None:
    assert FREE.of(CALLED) == 0.0
    assert Price(per_call=2.0).of(CALLED) == 2.0
    assert Price(per_1k_answer_tokens=2.0).of(CALLED) is None
    assert Price(per_1k_prompt_tokens=2.0).of(Spent(1, 10, None, None, None)) == 0.02


def test_sums_are_known_where_all_parts_are() -> None:
    assert add_up([]) == Spent(cost=0.0)
    assert add_up([CALL, CALL])[:5] == (2, 4000, 200, 1000, 1.0)
    assert add_up([CALL, CALLED]) == (2, None, None, None, None, None)
    assert add_up([Spent(1, 1, 1, 1, 1, 0.5), Spent(1, 1, 1, 1, 1, 0.25)]).cost == 0.75


def test_shares_add_up_to_the_whole() -> None:
    whole = Spent(1, 300, 30, 0, 0.25, 0.5)
    assert add_up([whole.share(4)] * 4) == pytest.approx(whole)
    assert CALLED.share(2) == (0.5, None, None, None, None, None)


def test_tokens_are_those_of_prompt_and_answer() -> None:
    assert CALL.tokens == 2100
    assert Spent().tokens == 0
    assert CALLED.tokens is None
