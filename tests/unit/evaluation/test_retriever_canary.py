# SPDX-License-Identifier: Apache-2.0
"""Two retrievers are compared by a judge of what only one of them recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from quorum.evaluation.retriever_canary import Pooled, difference_of
from quorum.retrieval.judged import JudgedPair


def judged(pooled: Sequence[Pooled], truth: Mapping[str, float]) -> list[JudgedPair]:
    """Judgements of what is disputed, by a table; a keyphrase that it lacks is not judged."""
    return [
        JudgedPair(
            item=item.item,
            text=item.text,
            keyphrase=keyphrase,
            label=truth[keyphrase],
            value="1",
            confidence=1.0,
        )
        for item in pooled
        for keyphrase in item.disputed
        if keyphrase in truth
    ]


def test_only_what_one_of_them_recommends_is_judged() -> None:
    pooled = [
        Pooled("i1", "red shoes", "", ("a", "b", "c"), ("a", "d", "c")),
        Pooled("i2", "red boots", "", ("a", "b"), ("b", "a")),
        Pooled("i3", "red hats", "", ("a", "e", "f"), ("a", "b", "e")),
    ]
    assert [item.disputed for item in pooled] == [("b", "d"), (), ("f", "b")]
    report = difference_of(pooled, (1, 2), 3, judged(pooled, {"b": 0.5, "d": 1.0}))
    # By hand: (1 - .5)/3, 0 and (.5 - 0)/3.
    assert report.difference.value == pytest.approx((0.5 + 0 + 0.5) / 3 / 3)
    assert (report.items, report.differ, report.disputed, report.judged) == (3, 2, 4, 3)
    assert (report.only_stable, report.only_canary) == (0.5, 0.75)


def test_the_difference_is_that_of_precision_with_every_keyphrase_judged() -> None:
    rng = np.random.default_rng(0)
    truth = {f"k{n}": float(rng.random() < 0.4) for n in range(60)}
    names, k = [*truth], 8
    pooled = [
        Pooled(f"i{n}", f"item {n}", "", *(tuple(rng.choice(names, k, replace=False)) for _ in range(2)))
        for n in range(200)
    ]
    report = difference_of(pooled, (1, 2), k, judged(pooled, truth))
    whole = [np.mean([truth[t] for t in p.canary]) - np.mean([truth[t] for t in p.stable]) for p in pooled]
    assert report.difference.value == pytest.approx(np.mean(whole))
    # The percentile interval of 200 items is about that of the normal distribution.
    error = 1.96 * np.std(whole) / np.sqrt(len(whole))
    assert report.difference.high - report.difference.value == pytest.approx(error, rel=0.15)
    assert report.verdict == "not decided"


def test_a_canary_that_recommends_better_keyphrases_is_better() -> None:
    pooled = [Pooled(f"i{n}", "text", "", ("bad", "x"), ("good", "x")) for n in range(30)]
    better, worse = {"bad": 0.0, "good": 1.0}, {"bad": 1.0, "good": 0.0}
    assert difference_of(pooled, (1, 2), 2, judged(pooled, better)).verdict == "better"
    assert difference_of(pooled, (2, 1), 2, judged(pooled, worse)).verdict == "worse"
