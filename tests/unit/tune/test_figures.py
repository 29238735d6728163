# SPDX-License-Identifier: Apache-2.0
"""Figures of tuned members on held-out rows."""

from __future__ import annotations

import pytest

from quorum.evaluation.task_scores import score_answers
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.tune.figures import by_task, figures, headline, pooled
from quorum.votes.schema import Cell

LABEL = Attribute("grade", kind="label", values=("a", "b", "c"), allow_na=False)
SPANS = Attribute("parts", kind="spans", values=("brand", "thing"))


def row(text: str, *answers: str, attribute: str = "x") -> TrainingRow:
    return TrainingRow(1, "p", text, "", attribute, answers)


@pytest.mark.parametrize(
    ("attribute", "gold", "answers"),
    [
        (LABEL, [("a",), ("b",), ("c",)], ["a", "c", None]),
        (Attribute("x"), [("red", "crimson"), ("n/a",)], ["crimson", "red"]),
        (SPANS, [('[["cap","thing"]]',), ("[]",)], ['[["cap","brand"]]', "[]"]),
        (Attribute("x", many=True), [('["a","b"]',), ("n/a",)], ['["a"]', "n/a"]),
        (Attribute("x", kind="text"), [("a red cup", "a cup"), ("cup",)], ["a cup", None]),
    ],
)
def test_figures_are_those_of_the_evaluation(
    attribute: Attribute, gold: list[tuple[str, ...]], answers: list[str | None]
) -> None:
    rows = [row("a cap", *accepted) for accepted in gold]
    cells = [Cell("p", "", "a cap", "x", (), accepted) for accepted in gold]
    kind = "values" if attribute.many else attribute.kind
    found = figures(attribute, rows, answers)
    assert found.pop("parse_share") == sum(answer is not None for answer in answers) / len(answers)
    assert found == pytest.approx(score_answers(kind, cells, answers))
    assert next(iter(found)) == headline(attribute)


def test_where_nothing_is_named_f1_is_the_share_that_is_right() -> None:
    rows = [row("t", "[]"), row("t", "[]")]
    assert figures(SPANS, rows, ["[]", None]) == {"f1": 0.5, "exact": 0.5, "parse_share": 0.5}
    assert "micro_f1" not in figures(Attribute("x"), [row("t", "n/a")], ["n/a"])


def test_an_answer_that_cannot_be_read_is_wrong() -> None:
    found = figures(LABEL, [row("t", "a"), row("t", "b")], ["a", None])
    assert (found["macro_f1"], found["accuracy"], found["parse_share"]) == (0.5, 0.5, 0.5)


def test_tasks_are_scored_apart_and_pooled_by_rows() -> None:
    rows = [row("t", "red", attribute="x"), row("t", "red", attribute="x"), row("t", "5", attribute="y")]
    scores = by_task({"x": Attribute("x"), "y": Attribute("y")}, rows, ["red", "blue", None])
    assert (scores["x"]["accuracy"], scores["x"]["parse_share"]) == (0.5, 1.0)
    assert (scores["y"]["accuracy"], scores["y"]["parse_share"]) == (0.0, 0.0)
    found = pooled(scores, rows)
    assert (found["accuracy"], found["parse_share"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
