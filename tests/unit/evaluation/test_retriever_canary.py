# SPDX-License-Identifier: Apache-2.0
"""Two retrievers are compared by a judge of what only one of them recommends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from quorum.evaluation.retriever_canary import AT_ONCE, Pooled, judge_difference
from quorum.retrieval.judged import JudgedPair


def pair(item: Pooled, keyphrase: str, label: float) -> JudgedPair:
    value = "relevant" if label >= 0.5 else "irrelevant"
    return JudgedPair(
        item=item.item, text=item.text, keyphrase=keyphrase, label=label, value=value, confidence=1.0
    )


class Truth:
    """Judges by a table, and remembers what it was asked."""

    def __init__(self, labels: dict[str, float | None]) -> None:
        self.labels = labels
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, item: Pooled, keyphrases: Sequence[str]) -> list[JudgedPair | None]:
        self.asked.append((item.item, tuple(keyphrases)))
        return [None if (found := self.labels[k]) is None else pair(item, k, found) for k in keyphrases]


def test_only_what_one_of_them_recommends_is_judged() -> None:
    pooled = [
        Pooled("i1", "red shoes", "", ("a", "b", "c"), ("a", "d", "c")),
        Pooled("i2", "red boots", "", ("a", "b"), ("b", "a")),
        Pooled("i3", "red hats", "", ("a", "e", "f"), ("a", "b", "e")),
    ]
    judge = Truth({"b": 0.5, "d": 1.0, "f": None})
    report, judged = judge_difference(pooled, (1, 2), 3, judge)
    assert judge.asked == [("i1", ("b", "d")), ("i3", ("f", "b"))]
    assert [(p.item, p.keyphrase, p.label) for p in judged] == [
        ("i1", "b", 0.5), ("i1", "d", 1.0), ("i3", "b", 0.5),
    ]  # fmt: skip
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
    report, _ = judge_difference(pooled, (1, 2), k, Truth(dict(truth)))
    whole = [np.mean([truth[t] for t in p.canary]) - np.mean([truth[t] for t in p.stable]) for p in pooled]
    assert report.difference.value == pytest.approx(np.mean(whole))
    # The percentile interval of 200 items is about that of the normal distribution.
    error = 1.96 * np.std(whole) / np.sqrt(len(whole))
    assert report.difference.high - report.difference.value == pytest.approx(error, rel=0.15)
    assert report.verdict == "not decided"


def test_a_canary_that_recommends_better_keyphrases_is_better() -> None:
    pooled = [Pooled(f"i{n}", "text", "", ("bad", "x"), ("good", "x")) for n in range(30)]
    assert judge_difference(pooled, (1, 2), 2, Truth({"bad": 0.0, "good": 1.0}))[0].verdict == "better"
    assert judge_difference(pooled, (2, 1), 2, Truth({"bad": 1.0, "good": 0.0}))[0].verdict == "worse"


def test_a_question_holds_no_more_keyphrases_than_a_request_may() -> None:
    many = tuple(f"k{n}" for n in range(100))
    judge = Truth(dict.fromkeys((*many, "z"), 1.0))
    judge_difference([Pooled("i", "text", "", many, ("z",))], (1, 2), 100, judge)
    assert [len(asked) for _, asked in judge.asked] == [AT_ONCE, 101 - AT_ONCE]
