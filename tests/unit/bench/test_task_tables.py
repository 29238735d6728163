# SPDX-License-Identifier: Apache-2.0
"""People and recorded systems as members: votes with learned weights against the best of them, held out."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.task_data import task_file

from quorum.decision.answer_kinds import kind_in
from quorum.decision.spans import dump_spans, load_pairs, locate
from quorum.decision.weights import equal_weights
from quorum.evaluation.answers import decide_answers
from quorum.evaluation.heldout import assign_folds, held_out, training
from quorum.evaluation.task_scores import intervals, measures
from quorum.learning.by_kind import learn
from quorum.votes import VotesTable, build_table
from quorum_bench.studies.task_tables import (
    KINDS,
    queryner_votes,
    relevance_votes,
    spans_of,
    summaries_votes,
)

LONG = bool(os.environ.get("QUORUM_LONG"))


def figures(table: VotesTable, folds: int = 5) -> dict[str, dict[str, float]]:
    """Percent by measure, of each member, of equal weights, and of weights learned from other folds."""
    fold = assign_folds(table.products, folds, 0)
    learned = [learn(seen, kinds=KINDS) for seen in training(table, fold, None, 0)]
    answers = {name: [cell.values[j] for cell in table.cells] for j, name in enumerate(table.members)}
    answers["majority"] = list(decide_answers(table, equal_weights(table.members), KINDS).values)
    answers["learned"] = list(held_out(table, fold, learned, KINDS).values)
    kind = kind_in(KINDS, table.cells[0].attribute)
    found = {name: measures(kind, table.cells, given) for name, given in answers.items()}
    return {
        name: {key: round(100 * measure.value, 1) for key, measure in own.items()}
        for name, own in found.items()
    }


def test_spans_of_three_annotators() -> None:
    path = task_file("queryner", "test.jsonl.gz")
    table = queryner_votes(path)
    found = figures(table, folds=5 if LONG else 3)
    assert found["annotator_1"]["f1"] == 74.5
    # The learned bias keeps more than two votes of three do, with more whole answers.
    assert found["majority"] == {"f1": 84.9, "exact": 66.0}
    assert found["learned"]["f1"] >= 85.2
    assert found["learned"]["exact"] >= 76.0


def test_the_interval_of_the_gain_over_the_best_annotator_is_above_0() -> None:
    table = queryner_votes(task_file("queryner", "test.jsonl.gz"))
    voted = decide_answers(table, equal_weights(table.members), KINDS).values
    sides = [voted, [cell.values[0] for cell in table.cells]]
    _, draws = intervals([measures("spans", table.cells, side)["f1"] for side in sides], table.products)
    assert np.quantile(draws[:, 0] - draws[:, 1], 0.025) > 0.08


def test_spans_keep_their_words_and_nearly_all_places() -> None:
    """Words that a text has twice are found by themselves alone, so a few move to the place before."""
    with gzip.open(task_file("queryner", "test.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = list(map(json.loads, file))
    answers = moved = 0
    for row in rows:
        text = " ".join(row["tokens"])
        for labels in (row["labels"], *row["annotators"]):
            spans = spans_of(row["tokens"], labels)
            found = locate(text, load_pairs(dump_spans(text, spans)))
            assert found is not None
            words = [sorted((text[s.start : s.end], s.type) for s in side) for side in (found, spans)]
            assert words[0] == words[1]
            answers, moved = answers + 1, moved + (found != sorted(spans))
    assert moved <= answers // 500


def test_labels_of_three_raters() -> None:
    found = figures(relevance_votes(task_file("relevance", "test.jsonl.gz")))
    assert found["rater_1"] == {"macro_f1": 56.9, "accuracy": 87.6, "micro_f1": 87.6}
    for name in ("majority", "learned"):
        assert found[name]["accuracy"] == 90.4
        assert found[name]["macro_f1"] == 63.3


def test_summaries_of_two_systems_and_eight_reviews() -> None:
    """Equal weights lose to the best system, as many weak texts are alike; references repair that."""
    files: list[Path] = [task_file("review-summaries", f"{part}.jsonl.gz") for part in ("dev", "test")]
    found = figures(summaries_votes(files))
    assert found["fewsum"] == {"rouge_l": 21.2, "rouge_1": 32.5, "rouge_2": 7.1}
    assert found["majority"]["rouge_1"] == 29.7
    assert found["learned"] == found["fewsum"]
    reviews = [own["rouge_1"] for name, own in found.items() if name.startswith("review")]
    assert np.mean(reviews) < 25.0 < found["copycat"]["rouge_1"] < found["majority"]["rouge_1"]
    table = summaries_votes(files)
    alone = build_table(table.members[2:], [cell.of_members(range(2, 10)) for cell in table.cells])
    equals = figures(alone)
    assert equals["majority"]["rouge_1"] > np.mean(reviews) + 2.0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-a", "I-a", "B-a"], [(0, 3, "a"), (4, 5, "a")]),
        (["I-a", "I-b", "O"], [(0, 1, "a"), (2, 3, "b")]),
    ],
)
def test_labels_become_spans(labels: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert spans_of(["x", "y", "z"], labels) == expected
