# SPDX-License-Identifier: Apache-2.0
"""Members, weights and channels are compared by the measure of each kind of answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.weights import Weights, equal_weights
from quorum.deployment.schema import CanarySpec
from quorum.evaluation.answers import (
    agreement_of,
    answer_score,
    member_answer_scores,
)
from quorum.evaluation.canary import compare_channels, is_trained_on, pairs_from_votes
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.given import evaluate_weights
from quorum.evaluation.guard import compare
from quorum.evaluation.learned import judge_learned
from quorum.evaluation.report import report_html
from quorum.learning.by_kind import learn
from quorum.votes import Cell, VotesTable, build_table

MEMBERS = ("good", "fair", "poor")
KINDS: AnswerKinds = {"entities": "spans", "grade": "label", "materials": "values", "summary": "text"}
TEXT = "red cotton shoe for men"
RIGHT = ('[["red","color"],["cotton shoe","product"]]', "exact", '["cotton"]', "a red shoe of cotton", "red")
WRONG = ('[["red cotton","color"],["shoe","product"]]', "close", '["wool"]', "good for men", "blue")
NAMES = ("entities", "grade", "materials", "summary", "color")


def votes_table(
    products: int = 60, seed: int = 0, chances: tuple[float, ...] = (0.9, 0.6, 0.4)
) -> VotesTable:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(products):
        for name, best, other in zip(NAMES, RIGHT, WRONG, strict=True):
            votes = tuple(best if rng.random() < chance else other for chance in chances)
            rows.append(Cell(f"p{number}", "", TEXT, name, votes, (best,)))
    return build_table(MEMBERS, rows)


def of(table: VotesTable, name: str) -> list[int]:
    return [row for row, cell in enumerate(table.cells) if cell.attribute == name]


def test_scores_by_hand() -> None:
    spans = Cell("p", "", TEXT, "entities", (), (RIGHT[0],))
    assert answer_score(spans, RIGHT[0], "spans") == 1.0
    assert answer_score(spans, '[["red","color"]]', "spans") == pytest.approx(2 / 3)
    assert answer_score(spans, '[["blue","color"]]', "spans") == answer_score(spans, None, "spans") == 0.0
    empty = replace(spans, gold=("[]",))
    assert answer_score(empty, "[]", "spans") == 1.0
    text = Cell("p", "", "", "summary", (), ("a red shoe", "red"))
    assert answer_score(text, "red shoe", "text") == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert answer_score(replace(text, gold=()), "red shoe", "text") == 0.0
    assert agreement_of("a", ["a", "b", None]) == 0.5
    assert agreement_of(RIGHT[0], [RIGHT[0], '[["red","color"]]'], "spans", TEXT) == pytest.approx(5 / 6)
    assert agreement_of("red shoe", ["red shoe"], "text") == 1.0
    assert agreement_of(None, ["x"], "text") == agreement_of("x", [None], "spans", TEXT) == 0.0


def test_members_without_kinds_are_as_before() -> None:
    table = votes_table(20)
    assert (member_answer_scores(table, {}) == table.correct()).all()


def test_first_come_best_member_encoder_majority_learned() -> None:
    table = votes_table()
    found = evaluate(table, ("majority", "loglinear"), folds=3, kinds=KINDS, encoders={"fair"})
    assert list(found.tasks) == ["entities", "grade", "materials", "summary", "single values"]
    for name, task in found.tasks.items():
        roles = [row.role for row in task.rows]
        assert roles == ["best member", "encoder alone", "majority", "learned", "member"], name
        assert task.rows[0].name == "good"
        assert task.rows[0].to_best_member is None
        assert task.cells == task.products == 60
    heads = {name: task.headline for name, task in found.tasks.items()}
    assert heads == {
        "entities": "f1", "grade": "macro_f1", "materials": "f1", "summary": "rouge_l",
        "single values": "accuracy",
    }  # fmt: skip
    by_attribute = found.methods["loglinear"].compared["majority"].by_attribute
    assert by_attribute["entities"].accuracy >= by_attribute["entities"].other
    plain = found.to_json()["tasks"]["summary"]["rows"][0]
    assert set(plain["figures"]) == {"rouge_l", "rouge_1", "rouge_2"}
    assert plain["answered"] == 1.0
    assert any("texts: its ROUGE-L" in note for note in found.notes)
    page = report_html(found)
    assert page.index("encoder alone: fair") < page.index("<h2>Members</h2>")


def test_texts_alone_can_be_evaluated() -> None:
    table = votes_table()
    found = evaluate(table.take(of(table, "summary")), ("majority", "em", "loglinear"), kinds=KINDS)
    row = next(row for row in found.tasks["summary"].rows if row.role == "learned")
    assert row.name == "loglinear"
    assert row.figures["rouge_l"].value >= 0.9


def test_given_weights() -> None:
    table, other = votes_table(seed=1), votes_table(seed=2)
    weights = learn(table, kinds=KINDS)
    found = evaluate_weights(other, weights, kinds=KINDS)
    assert not found.trained_on
    assert evaluate_weights(table, weights, kinds=KINDS).trained_on
    assert found.weights.value > found.majority.value
    figures = {row.role: row.figures["f1"].value for row in found.tasks["entities"].rows}
    assert figures["learned"] > figures["majority"]
    assert "tasks" in found.to_json()


def test_texts_taught_by_references_are_known_as_trained_on() -> None:
    table = votes_table()
    texts = table.take(of(table, "summary"))
    taught = learn(texts, kinds=KINDS)
    assert is_trained_on(texts, taught)
    assert not is_trained_on(texts, learn(texts, "majority", kinds=KINDS))


def hostile(weights: Weights, name: str) -> Weights:
    """The weights with all weight on the worst member, for one attribute."""
    worst = weights.parameters(name).weighing((0.01, 0.01, 3.0))
    return replace(weights, attributes={**weights.attributes, name: worst})


@pytest.mark.parametrize("name", ["entities", "summary", "materials"])
def test_the_guard_sees_what_gets_worse(name: str) -> None:
    table = votes_table(80)
    running = learn(table, kinds=KINDS)
    found = compare(hostile(running, name), running, table, kinds=KINDS)
    assert found.worse == [name]
    assert found.delta < 0.0
    whole = compare(running, running, table, kinds=KINDS)
    assert (whole.worse, whole.delta) == ([], 0.0)


def test_verdict_and_table_name_one_best_member() -> None:
    """One member is right on many spans of few products, the other on few spans of many."""
    long = '[["red","a"],["cotton","a"],["shoe","a"],["for","a"],["men","a"]]'
    rows = [
        Cell(f"p{n}", "", TEXT, "entities", (right, other, other), (right,))
        if (n % 3 == 0)
        else Cell(f"p{n}", "", TEXT, "entities", (other, right, other), (right,))
        for n in range(60)
        for right, other in [(long, "[]") if n % 3 == 0 else ('[["red","a"]]', '[["men","a"]]')]
    ]
    table, kinds = build_table(MEMBERS, rows), {"entities": "spans"}
    found = evaluate(table, ("majority",), kinds=kinds)  # type: ignore[arg-type]
    assert found.best_member == found.tasks["entities"].rows[0].name == "good"
    assert member_answer_scores(table, kinds)[:, 1].mean() > 0.6  # type: ignore[arg-type]
    assert "good" in found.verdict
    assert "mean score (F1 of spans)" in found.verdict
    weights = equal_weights(MEMBERS)
    given = evaluate_weights(table, weights, kinds=kinds)  # type: ignore[arg-type]
    assert given.best_member == "good"
    assert "% mean score (F1 of spans), " in given.verdict
    mixed = str(compare(weights, weights, votes_table(5), kinds=KINDS))
    assert "mean score (1 or 0 of values, F1 of spans, F1 of sets, ROUGE-L of texts) against" in mixed


def test_few_labels_show_what_auto_learns_from_few() -> None:
    table = votes_table(100, chances=(0.9, 0.6, 0.4))
    found = evaluate(table, ("majority", "loglinear"), 2, 60, kinds=KINDS)
    # 60 labels of five attributes: fewer than 50 of spans.
    assert {row.role for row in found.tasks["entities"].rows} == {"best member", "majority", "member"}


def test_a_canary_is_compared_by_scores() -> None:
    table = votes_table(80)
    stable = learn(table, kinds=KINDS)
    pairs = pairs_from_votes(table, stable, hostile(stable, "entities"), kinds=KINDS)
    rules = CanarySpec(min_products=50)
    report = compare_channels(pairs, (1, 2), rules)
    assert report.compared["stable"].worse == ["entities"]
    assert report.verdict.action != "promote"
    assert report.top[0].worse > report.top[0].better == 0
    spans = [pair for pair in pairs if pair.attribute == "entities"]
    assert all(0.0 <= score <= 1.0 for pair in spans for score in pair.right)
    texts = [pair for pair in pairs if pair.attribute == "summary"]
    assert all(0.0 < pair.stable.agreement <= 1.0 for pair in texts)


def test_learned_weights_are_judged_by_scores() -> None:
    table = votes_table(60)
    weights = learn(table, kinds=KINDS)

    def again(seen: VotesTable) -> Weights:
        return learn(seen, weights.method, kinds=KINDS)

    found = judge_learned(table, weights, table.labelled, again, kinds=KINDS)
    assert found is not None
    assert found.accuracy.value > found.majority.value
    assert set(found.compared["majority"].by_attribute) == set(NAMES)
    equal = judge_learned(table, equal_weights(MEMBERS), table.labelled, again, kinds=KINDS)
    assert equal is not None
    assert equal.accuracy == equal.majority
