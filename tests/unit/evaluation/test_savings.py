# SPDX-License-Identifier: Apache-2.0
"""What an encoder in front of the ensemble would save: its thresholds, and counts on other keyphrases."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.evaluation.savings import cuts_for, measure_savings, thresholds
from quorum.retrieval.judged import Judged, JudgedPair, gather

KEYPHRASES = 40


def test_thresholds_leave_least_to_the_ensemble() -> None:
    """Against all pairs of cuts, with equal scores among them."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        relevant = rng.random(40) < 0.5
        scores = np.round(relevant + rng.normal(0, 0.5, 40), 1)
        ends = [-np.inf, *(np.unique(scores) + 0.05), np.inf]
        best = 0
        for low in ends:
            for high in ends:
                alone = (scores < low) | (scores > high)
                if low <= high and ((scores > high) != relevant)[alone].sum() <= 2:
                    best = max(best, int(alone.sum()))
        low, high = cuts_for(scores, relevant, 2)
        alone = (scores < low) | (scores > high)
        assert alone.sum() == best
        assert ((scores > high) != relevant)[alone].sum() <= 2


@pytest.mark.parametrize(("pairs", "allowed"), [(148, None), (149, 0), (400, 3), (1000, 12)])
def test_so_few_may_differ_that_the_agreement_is_sure(pairs: int, allowed: int | None) -> None:
    """The numbers are those of tables of the binomial distribution: P(X <= allowed | n, .02) <= .05."""
    relevant = np.arange(pairs) >= pairs // 2
    scores = np.arange(pairs, dtype=np.float64)
    # So many irrelevant pairs have the highest scores.
    wrong = 0 if allowed is None else allowed
    scores[:wrong] = pairs + np.arange(wrong)
    low, high = thresholds(scores, relevant, 0.98)
    answered = ((scores < low) | (scores > high)).sum()
    assert answered == (0 if allowed is None else pairs)


def judged_pairs(count: int) -> Judged:
    rows = (
        JudgedPair(
            item=f"i{n // 4}", text="t", keyphrase=f"k{n % KEYPHRASES}", label=float(n % 3 == 0), value="3",
            confidence=0.9,
        )
        for n in range(count)
    )  # fmt: skip
    return gather(rows)


def test_savings_are_counted_on_other_keyphrases() -> None:
    judged = judged_pairs(1200)
    perfect = measure_savings(judged.labels.astype(np.float64), judged)
    assert (perfect.saved.value, perfect.agreement.value, perfect.requests) == (1.0, 1.0, 1.0)
    assert (perfect.pairs, perfect.keyphrases) == (1200, KEYPHRASES)
    useless = measure_savings(np.random.default_rng(0).random(1200), judged)
    assert useless.saved.value < 0.1
    assert useless.requests <= useless.saved.value
    assert useless.agreement.value > 0.97


def test_the_agreement_holds_on_the_half_that_was_not_chosen_by() -> None:
    """Thresholds chosen for 98 % on the one half keep it on the other, where a bare count would miss it."""
    judged = judged_pairs(1200)
    missed = 0
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.35, 1200)
        found = measure_savings(judged.labels + noise, judged, seed=seed)
        assert found.saved.value > 0.2
        assert found.saved.low < found.saved.value < found.saved.high
        missed += found.agreement.value < found.aim
    assert missed == 0


def test_few_pairs_save_nothing() -> None:
    judged = judged_pairs(200)
    found = measure_savings(judged.labels.astype(np.float64), judged)
    assert (found.saved.value, found.requests, found.agreement.value) == (0.0, 0.0, 1.0)
    assert "0.0% of the requests" in str(found)
