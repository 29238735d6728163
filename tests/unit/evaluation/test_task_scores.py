# SPDX-License-Identifier: Apache-2.0
"""Measures of labels, spans and texts equal those of scikit-learn, seqeval and rouge-score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.task_data import task_file

from quorum.decision.spans import dump_spans, dump_values
from quorum.evaluation.stats import means_over_products
from quorum.evaluation.task_scores import answered_share, intervals, measures, parse_share, score_answers
from quorum.votes import Cell
from quorum_bench.studies.task_tables import queryner_votes, relevance_votes, spans_of, summaries_votes
from quorum_contract import Status

TYPES = ("a", "b", "c")


def cell(gold: str | tuple[str, ...], text: str = "", values: tuple[str | None, ...] = ()) -> Cell:
    return Cell("p", "", text, "x", values, (gold,) if isinstance(gold, str) else gold)


@pytest.mark.parametrize("seed", range(4))
def test_f1_of_labels_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    gold, given = (rng.choice(["exact", "close", "n/a", "never"], 60, p=[0.5, 0.3, 0.2, 0]) for _ in "ab")
    given[:3] = "only an answer"
    found = score_answers("label", [cell(str(name)) for name in gold], [str(name) for name in given])
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(gold, given))
    for average in ("macro", "micro"):
        expected = metrics.f1_score(gold, given, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)


def test_no_label_is_a_miss_and_no_false_positive() -> None:
    found = score_answers("label", [cell("a"), cell("a"), cell("b")], ["a", None, "b"])
    assert found == {
        "macro_f1": pytest.approx((2 / 3 + 1) / 2), "accuracy": pytest.approx(2 / 3),
        "micro_f1": pytest.approx(4 / 5),
    }  # fmt: skip


def random_bio(rng: np.random.Generator, length: int) -> list[str]:
    labels: list[str] = []
    for _ in range(length):
        choices = ["O", *(f"B-{kind}" for kind in TYPES)]
        if labels and labels[-1] != "O":
            choices += [f"I-{labels[-1][2:]}"] * 3
        labels.append(str(rng.choice(choices)))
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_strict_f1_of_spans_is_that_of_seqeval(seed: int) -> None:
    import seqeval.metrics
    from seqeval.scheme import IOB2

    rng = np.random.default_rng(seed)
    tokens = [[f"w{i}" for i in range(rng.integers(1, 8))] for _ in range(50)]
    gold, given = ([random_bio(rng, len(words)) for words in tokens] for _ in "ab")
    texts = [" ".join(words) for words in tokens]
    answers = [
        [dump_spans(t, spans_of(words, row)) for t, words, row in zip(texts, tokens, side, strict=True)]
        for side in (gold, given)
    ]
    cells = [cell(answer, text) for answer, text in zip(answers[0], texts, strict=True)]
    found = score_answers("spans", cells, list(answers[1]))
    assert found["f1"] == pytest.approx(seqeval.metrics.f1_score(gold, given, mode="strict", scheme=IOB2))
    assert found["exact"] == np.mean([a == b for a, b in zip(*answers, strict=True)])


def test_annotators_of_queryner_score_as_published_by_seqeval() -> None:
    table = queryner_votes(task_file("queryner", "test.jsonl.gz"))
    found = [
        score_answers("spans", table.cells, [cell.values[j] for cell in table.cells])["f1"] for j in range(3)
    ]
    assert [round(100 * share, 1) for share in found] == [74.5, 73.9, 70.2]


def test_raters_of_relevance_score_as_noted() -> None:
    table = relevance_votes(task_file("relevance", "test.jsonl.gz"))
    found = [score_answers("label", table.cells, [cell.values[j] for cell in table.cells]) for j in range(3)]
    assert [round(100 * share["accuracy"], 1) for share in found] == [87.6, 83.7, 83.4]
    assert [round(100 * share["macro_f1"], 1) for share in found] == [56.9, 52.9, 48.3]


def test_rouge_is_that_of_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    files = [task_file("review-summaries", f"{part}.jsonl.gz") for part in ("dev", "test")]
    cells = summaries_votes(files).cells
    pairs = [(cell, value) for cell in cells for value in cell.values][:100]
    for one, value in pairs:
        assert value is not None
        found = score_answers("text", [one], [value])
        expected = [scorer.score(reference, value) for reference in one.gold]
        for name, theirs in {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}.items():
            assert found[name] == pytest.approx(np.mean([score[theirs].fmeasure for score in expected]))


def test_several_values_and_alternatives() -> None:
    gold = dump_values(["cotton", "wool"])
    found = score_answers("values", [cell(gold), cell("n/a")], [dump_values(["cotton"]), "n/a"])
    assert found == {"f1": pytest.approx(2 / 3), "exact": 0.5}
    either = cell(('[["red","color"]]', "[]"), "red shoe")
    for answer in ('[["red","color"]]', "[]"):
        assert score_answers("spans", [either], [answer])["exact"] == 1.0
    assert score_answers("spans", [cell('[["red","color"]]', "red shoe")], ["no JSON"])["f1"] == 0.0
    assert math.isnan(score_answers("spans", [cell("[]", "shoe")], ["[]"])["f1"])


def test_values_as_before() -> None:
    cells = [cell("red"), cell("n/a"), cell("blue")]
    assert score_answers("value", cells, ["red", "n/a", "n/a"]) == {
        "accuracy": pytest.approx(2 / 3), "micro_f1": pytest.approx(2 / 3),
    }  # fmt: skip


def test_intervals_are_those_of_a_bootstrap_over_products() -> None:
    rng = np.random.default_rng(0)
    cells = [cell("a") for _ in range(400)]
    answers = [str(name) for name in rng.choice(["a", "b"], 400)]
    measure = measures("label", cells, answers)["accuracy"]
    (found,), draws = intervals([measure], (np.arange(400) // 2).astype(np.int32))
    assert found.value == pytest.approx(np.mean([answer == "a" for answer in answers]))
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)
    assert draws.shape == (2000, 1)
    right = np.array([[answer == "a"] for answer in answers])
    assert found == means_over_products(right, (np.arange(400) // 2).astype(np.int32))[0]


def test_what_can_be_known_of_parsing() -> None:
    assert parse_share([0, 0, Status.UNPARSABLE, 1, 3]) == pytest.approx(2 / 3)
    assert math.isnan(parse_share([1, 5]))
    cells = [cell("a", values=("a", None)), cell("a", values=("b", "b"))]
    assert [answered_share(cells, member) for member in (0, 1)] == [1.0, 0.5]


def test_alternatives_in_gold_leave_f1_at_most_1() -> None:
    either = cell(("n/a", "red"))
    assert score_answers("value", [either], ["red"]) == {"accuracy": 1.0, "micro_f1": 1.0}
    assert score_answers("value", [either, cell("red")], ["n/a", "red"])["micro_f1"] == 1.0


def test_gold_that_cannot_be_read_counts_as_none() -> None:
    cells = [cell('[["red","color"]]', "red shoe"), cell('[["blue","color"]]', "red shoe")]
    assert score_answers("spans", cells, ['[["red","color"]]'] * 2) == {"f1": 1.0, "exact": 1.0}
