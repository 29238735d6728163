# SPDX-License-Identifier: Apache-2.0
"""When a call is hedged, and the budget of hedges."""

from __future__ import annotations

from typing import Any

import pytest

from quorum_client import InvalidRequest
from quorum_client._hedging import Hedges


def test_the_95th_percentile_of_the_last_calls_is_waited_for() -> None:
    hedges = Hedges("p95", 0.05, 2)
    for _ in range(19):
        hedges.answered(1.0)
        assert hedges.delay_s() is None, "too few calls to know"
    hedges.answered(1.0)
    assert hedges.delay_s() == 1.0
    for number in range(200):
        hedges.answered(number / 100)
    assert hedges.delay_s() == pytest.approx(1.89, abs=0.11)


def test_the_share_is_kept_and_little_is_saved() -> None:
    hedges = Hedges(0.1, 0.05, 2)

    def hedged(calls: int) -> int:
        return sum(hedges.delay_s() is not None and hedges.take() for _ in range(calls))

    assert 50 <= hedged(1000) <= 52
    for _ in range(10_000):
        hedges.delay_s()
    assert sum(hedges.take() for _ in range(100)) <= 10


def test_without_hedges_nothing_is_hedged() -> None:
    assert Hedges(None, 0.05, 1).delay_s() is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((0, 0.05, 2), "hedge_s: 0"),
        (("p50", 0.05, 2), "hedge_s: 'p50'"),
        ((True, 0.05, 2), "hedge_s"),
        ((float("nan"), 0.05, 2), "hedge_s"),
        ((0.1, 0, 2), "hedge_share: 0"),
        ((0.1, 1.5, 2), "hedge_share"),
        ((0.1, 0.05, 1), "hedge_s: 0.1 with one server"),
    ],
)
def test_settings_that_cannot_work(settings: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Hedges(*settings)
