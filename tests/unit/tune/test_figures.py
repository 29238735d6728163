# SPDX-License-Identifier: Apache-2.0
"""Figures of tuned members on held-out rows."""

from __future__ import annotations

import random

import pytest

from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.tune.figures import by_task, figures, macro_f1, pooled, set_f1

LABEL = Attribute("grade", kind="label", values=("a", "b", "c"), allow_na=False)
SPANS = Attribute("parts", kind="spans", values=("brand", "thing"))


def row(text: str, *answers: str, attribute: str = "x") -> TrainingRow:
    return TrainingRow(1, "p", text, "", attribute, answers)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed here")
    rng = random.Random(0)
    for _ in range(20):
        gold, answers = (rng.choices("abcd"[: rng.randint(2, 4)], k=30) for _ in range(2))
        assert macro_f1(gold, answers) == pytest.approx(metrics.f1_score(gold, answers, average="macro"))


def test_an_answer_that_cannot_be_read_is_wrong() -> None:
    found = figures(LABEL, [row("t", "a"), row("t", "b")], ["a", None])
    assert found == {"macro_f1": pytest.approx(0.5), "accuracy": 0.5, "parse_share": 0.5}


def test_nothing_is_right_only_where_it_is_the_first_answer() -> None:
    rows = [
        row("t", "red", "n/a"),
        row("t", "n/a", "red"),
        row("t", "n/a", "red"),
        row("t", "red", "crimson"),
    ]
    assert figures(Attribute("x"), rows, ["n/a", "n/a", "red", "crimson"])["accuracy"] == 0.75


def test_a_span_counts_with_its_type_and_both_borders() -> None:
    gold = '[["acme co","brand"],["cap","thing"]]'
    rows = [row("acme co cap", gold)] * 4
    answers = [gold, '[["acme","brand"],["cap","thing"]]', '[["cap","brand"]]', None]
    assert set_f1(rows, answers) == pytest.approx(2 * 3 / (8 + 5))
    assert figures(SPANS, rows, answers)["accuracy"] == 0.25
    assert set_f1([row("t", "[]")], ["[]"]) == 1.0


def test_tasks_are_scored_apart_and_pooled_by_rows() -> None:
    rows = [row("t", "red", attribute="x"), row("t", "red", attribute="x"), row("t", "5", attribute="y")]
    scores = by_task({"x": Attribute("x"), "y": Attribute("y")}, rows, ["red", "blue", None])
    assert scores["x"] == {"accuracy": 0.5, "parse_share": 1.0}
    assert scores["y"] == {"accuracy": 0.0, "parse_share": 0.0}
    assert pooled(scores, rows) == {"accuracy": pytest.approx(1 / 3), "parse_share": pytest.approx(2 / 3)}


def test_several_values_are_scored_one_by_one() -> None:
    rows = [row("t", '["hiking","work"]'), row("t", "n/a"), row("t", '["work"]')]
    found = figures(Attribute("uses", many=True), rows, ['["hiking"]', "n/a", None])
    assert found["f1"] == pytest.approx(2 * 1 / (3 + 1))
    assert found["accuracy"] == pytest.approx(1 / 3)


def test_a_text_is_scored_against_the_closest_reference() -> None:
    rows = [row("t", "something else", "a red cup"), row("t", "a cup")]
    found = figures(Attribute("about", kind="text"), rows, ["a red cup", None])
    assert (found["rouge_l"], found["rouge_1"], found["parse_share"]) == (0.5, 0.5, 0.5)
