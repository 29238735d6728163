# SPDX-License-Identifier: Apache-2.0
"""Given weights are judged on labels: by hand where it can be, and few products prove nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import scored_table

import quorum
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError, dump, equal_weights
from quorum.evaluation import NothingToScoreError
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.given import evaluate_weights
from quorum.learning.learn import learn
from quorum.votes import Cell, VotesTable, build_table, write_votes


def first_alone(table: VotesTable) -> Weights:
    return Weights("em", table.members, Parameters((3.0, 1.0, 1.0)))


def split(good: int, bad: int) -> VotesTable:
    """On "good" only the first member is right; on "bad" only the two others."""
    rows = [Cell(f"p{i}", "c", "", "good", ("x", "y", "y"), ("x",)) for i in range(good)]
    rows += [Cell(f"p{i}", "c", "", "bad", ("y", "x", "x"), ("x",)) for i in range(bad)]
    return build_table(["a", "b", "c"], rows)


def test_figures_by_hand() -> None:
    table = split(36, 24)
    found = evaluate_weights(table, first_alone(table), others={"version 2": first_alone(table)})
    assert found.weights.value == found.members["a"].value == pytest.approx(0.6)
    assert found.majority.value == pytest.approx(0.4)
    assert found.delta_majority.value == pytest.approx(0.2)
    assert (found.best_member, found.delta_best_member.value) == ("a", 0.0)
    assert (found.gold_labels, found.products, found.gold_outside) == (60, 36, 0)
    good, bad = (found.to_json()["by_attribute"][name] for name in ("good", "bad"))
    keys = ("weights", "majority", "best_member", "cells", "products", "is_worse", "verdict")
    assert tuple(good[key] for key in keys) == (1, 0, 1, 36, 36, False, "better")
    assert tuple(bad[key] for key in keys) == (0, 1, 0, 24, 24, True, "worse")
    assert found.verdict.startswith("60.0 % right, ")
    assert "; worse on bad (-100.0 points" in found.verdict
    assert "good" not in found.verdict
    live = found.compared["version 2"].by_attribute
    assert {name: (c.difference.value, c.verdict) for name, c in live.items()} == {
        "good": (0.0, "unclear"), "bad": (0.0, "unclear"),
    }  # fmt: skip


def test_an_attribute_that_is_worse_than_what_is_live_is_named() -> None:
    table = split(36, 24)
    found = evaluate_weights(table, equal_weights(table.members), others={"version 2": first_alone(table)})
    assert "worse on" not in found.verdict
    assert "; worse than version 2 on good (-100.0 points" in found.verdict


def test_a_best_member_that_is_right_where_majority_is() -> None:
    table = split(0, 20)
    found = evaluate_weights(table, first_alone(table))
    assert found.best_member == "b"
    assert found.majority.value == found.members["b"].value == 1.0
    assert found.to_best_member.by_attribute["bad"].difference.value == -1.0


def test_few_products_prove_nothing() -> None:
    """A bootstrap of two products that both lose has no width."""
    table = split(12, 2)
    found = evaluate_weights(table, first_alone(table))
    bad = found.compared["majority"].by_attribute["bad"]
    assert (bad.difference.value, bad.verdict) == (-1.0, "too few cells")
    assert bad.difference.high == pytest.approx(-1 + 1 - 0.025**0.5)
    assert "worse on" not in found.verdict


def test_figures_are_those_of_cross_validation_and_in_the_json() -> None:
    table = scored_table(np.random.default_rng(3), 600)
    found = evaluate_weights(table, equal_weights(table.members), seed=4)
    other = evaluate(table, ("majority",), seed=4)
    assert found.members == other.members
    assert found.majority.value == other.methods["majority"].accuracy
    assert (found.majority.low, found.majority.high) == pytest.approx(other.methods["majority"].ci95)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["weights"] == told["majority"]
    assert told["weights"]["accuracy"] == found.weights.value
    assert told["delta_majority"] == 0.0
    assert told["delta_majority_ci95"][0] < 0 < told["delta_majority_ci95"][1]
    for name, (share, cells) in other.methods["majority"].by_attribute.items():
        figures = told["by_attribute"][name]
        assert (figures["weights"], figures["majority"], figures["cells"]) == (share, share, cells)


def test_the_order_of_the_members_does_not_matter_and_others_are_refused() -> None:
    table = split(12, 8)
    weights = first_alone(table)
    turned = table.of_members(["c", "a", "b"])
    assert evaluate_weights(turned, weights).to_json() == evaluate_weights(table, weights).to_json()
    with pytest.raises(WeightsError, match="weights are for a, b, z, the votes are those of a, b, c"):
        evaluate_weights(table, equal_weights(["a", "b", "z"]))
    with pytest.raises(NothingToScoreError, match="label some"):
        evaluate_weights(table.with_gold(np.zeros(len(table), np.bool_)), weights)


def test_weights_learned_from_these_labels_are_told() -> None:
    table = scored_table(np.random.default_rng(5), 600)
    half = table.with_gold(table.products % 2 == 0)
    other = table.take(np.flatnonzero(table.products % 2 == 1))
    weights = learn(half, "loglinear")
    assert evaluate_weights(half, weights).trained_on
    assert "learned from these very labels" in evaluate_weights(half, weights).verdict
    assert not evaluate_weights(other, weights).trained_on
    assert not evaluate_weights(half, learn(half, "em")).trained_on


def test_votes_without_scores_get_a_note(tmp_path: Path) -> None:
    table = scored_table(np.random.default_rng(6), 600)
    weights = learn(table, "em")
    assert weights.uses_scores
    dump(weights, tmp_path / "w.json")
    write_votes(table, tmp_path / "scored.jsonl")
    write_votes(
        build_table(table.members, [replace(c, scores=()) for c in table.cells]), tmp_path / "bare.jsonl"
    )
    notes: list[str] = []
    scored = quorum.evaluate_weights(tmp_path / "scored.jsonl", tmp_path / "w.json", note=notes.append)
    assert notes == []
    bare = quorum.evaluate_weights(tmp_path / "bare.jsonl", weights, note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("votes of m0 (100%), m1 (100%), m2 (100%) have no score, by which the weights")
    assert bare.weights.value != scored.weights.value
