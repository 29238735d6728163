# SPDX-License-Identifier: Apache-2.0
"""Weights that were just learned are judged on labels that did not teach them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quorum
from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation import learned
from quorum.evaluation.learned import judge_learned
from quorum.evaluation.score import hits
from quorum.learning.learn import learn
from quorum.votes import Cell, VotesTable, build_table, write_votes


def table(products: int = 120, seed: int = 0) -> VotesTable:
    """Only the first member is good at "colour", only the others at "brand"."""
    rng, rows = np.random.default_rng(seed), []
    for p in range(products):
        for name, skill in (("colour", (0.95, 0.4, 0.4)), ("brand", (0.3, 0.85, 0.85))):
            values = ["x" if rng.random() < share else f"y{rng.integers(3)}" for share in skill]
            rows.append(Cell(f"p{p}", "c", "", name, tuple(values), ("x",)))
    return build_table(["a", "b", "c"], rows)


def by_colour(seen: VotesTable) -> Weights:
    """One set of weights for all attributes, learned where the first member is best."""
    colour = np.array([cell.attribute == "colour" for cell in seen.cells])
    return learn(seen.with_gold(seen.labelled & colour), "loglinear", settings={"per_attribute": False})


def test_five_folds_name_the_attribute_that_one_set_of_weights_makes_worse() -> None:
    votes = table()
    seen: list[int] = []

    def again(fold: VotesTable) -> Weights:
        seen.append(int(fold.labelled.sum()))
        return by_colour(fold)

    found = judge_learned(votes, by_colour(votes), votes.labelled, again)
    assert found is not None
    assert len(seen) == 5
    assert max(seen) < 240 <= sum(seen) / 4
    assert found.warning.startswith("worse than majority on brand (-")
    assert "5 parts of the labels" in found.warning
    assert found.compared["majority"].by_attribute["colour"].verdict == "better"
    assert (found.gold_labels, found.products) == (240, 120)


def test_labels_that_were_left_over_judge_these_very_weights() -> None:
    votes = table()
    used = votes.sample_gold(40, 1).labelled
    weights = by_colour(votes.with_gold(used))
    found = judge_learned(votes, weights, used, lambda _: pytest.fail("nothing is learned again"))
    assert found is not None
    rest = ~np.isin(votes.products, votes.products[used])
    assert found.gold_labels == rest.sum()
    assert found.accuracy.value == hits(votes, weights)[rest].mean()
    assert "labels that were not learned from" in found.how


def test_methods_without_gold_are_judged_on_all_of_it_and_too_many_labels_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    votes = table()
    em = learn(votes, "em")
    found = judge_learned(votes, em, votes.labelled, lambda _: pytest.fail("nothing is learned again"))
    assert found is not None
    assert (found.gold_labels, found.accuracy.value) == (240, hits(votes, em).mean())
    monkeypatch.setattr(learned, "MOST_LABELS", 239)
    assert judge_learned(votes, by_colour(votes), votes.labelled, by_colour) is None
    blank = votes.with_gold(np.zeros(len(votes), np.bool_))
    assert judge_learned(blank, em, blank.labelled, by_colour) is None


def test_what_is_live_is_compared_unless_these_labels_taught_it_or_it_is_majority() -> None:
    votes, others = table(), table(seed=9)
    live = {
        "version 3": by_colour(others),
        "version 4": learn(votes),
        "version 5": equal_weights(votes.members),
    }
    found = judge_learned(votes, learn(votes, "em"), votes.labelled, by_colour, live)
    assert found is not None
    assert list(found.compared) == ["majority", "version 3"]
    assert found.compared["version 3"].by_attribute["colour"].verdict == "worse"


def test_learn_reports_it_and_may_leave_it_out(tmp_path: Path) -> None:
    write_votes(table(60), tmp_path / "votes.jsonl")
    report = quorum.learn(tmp_path / "votes.jsonl", options=quorum.LearnOptions(gold_labels=50))
    assert report.judged is not None
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))["judged"]
    brand = told["compared"]["majority"]["by_attribute"]["brand"]
    assert set(brand) == {"accuracy", "other", "difference", "ci95", "cells", "products", "verdict"}
    off = quorum.learn(tmp_path / "votes.jsonl", options=quorum.LearnOptions(gold_labels=50, judge=False))
    assert off.judged is None
    assert "judged" not in off.to_json()
