# SPDX-License-Identifier: Apache-2.0
"""Several draws of the labels widen the intervals by what the draw does, and change nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scored import scored_table
from typer.testing import CliRunner

import quorum
from quorum.cli import app
from quorum.evaluation.curve import learning_curve
from quorum.evaluation.draws import estimates, resampled, spread, training_draws
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.heldout import assign_folds, training
from quorum.evaluation.stats import RESAMPLES, bootstrap_means
from quorum.votes import VotesError, write_votes

TABLE = scored_table(np.random.default_rng(2), 450)
PRODUCTS = np.repeat(np.arange(200), 3).astype(np.int32)


def test_an_interval_holds_the_variance_of_products_and_of_draws() -> None:
    """The variances add up: draws that differ by more than chance widen the interval accordingly."""
    rng = np.random.default_rng(0)
    levels = np.linspace(0.6, 0.8, 20)
    cells = (rng.random((600, 1)) < levels).astype(np.float64)
    found = resampled([cells], PRODUCTS, 0)
    assert found.shape == (RESAMPLES, 1)
    by_products = bootstrap_means(cells, PRODUCTS, RESAMPLES, 0).var(axis=0).mean()
    by_draws = cells.mean(axis=0).var()
    assert by_draws > 5 * by_products
    assert found.var() == pytest.approx(by_products + by_draws, rel=0.1)
    assert found.mean() == pytest.approx(cells.mean(), abs=0.005)


def test_figures_of_one_draw_are_those_without_draws_and_others_share_their_draw() -> None:
    rng = np.random.default_rng(1)
    one, many = rng.random((600, 1)), rng.random((600, 7))
    plain = bootstrap_means(np.column_stack([one, many]), PRODUCTS, RESAMPLES, 3)
    mixed = resampled([one, many, many], PRODUCTS, 3)
    assert mixed[:, 0] == pytest.approx(plain[:, 0], rel=1e-12)
    assert np.array_equal(mixed[:, 1], mixed[:, 2])
    nearest = np.abs(plain[:, 1:] - mixed[:, 1:2]).argmin(axis=1)
    assert np.abs(plain[np.arange(RESAMPLES), 1 + nearest] - mixed[:, 1]).max() < 1e-12
    assert np.bincount(nearest, minlength=7).min() > RESAMPLES / 7 / 2
    assert estimates({"same": many - many}, PRODUCTS, 3)["same"].high == 0.0


def test_a_draw_has_its_labels_outside_each_fold_and_shares_them_between_folds() -> None:
    fold = assign_folds(TABLE.products, 5, 0)
    drawn = training_draws(TABLE, fold, 60, 0, 3)
    assert [len(tables) for tables in drawn] == [5, 5, 5]
    for tables in drawn:
        for part, table in enumerate(tables):
            assert table.labelled.sum() == 60
            assert not table.labelled[fold == part].any()
        shared = (tables[0].labelled & tables[1].labelled).sum()
        assert shared >= 30
    between = (drawn[0][0].labelled & drawn[1][0].labelled).sum()
    assert between < 25
    (single,) = training_draws(TABLE, fold, 60, 0, 1)
    for table, other in zip(single, training(TABLE, fold, 60, 0), strict=True):
        assert np.array_equal(table.labelled, other.labelled)
    with pytest.raises(VotesError, match="400 gold labels wanted, a fold has 3"):
        training_draws(TABLE, fold, 400, 0, 2)


def test_only_methods_that_use_gold_are_learned_by_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["quorum.evaluation.evaluate"]
    learned: list[str] = []
    learn = module.learn  # type: ignore[attr-defined]

    def counted(table: Any, method: str, **rest: Any) -> Any:
        learned.append(method)
        return learn(table, method, **rest)

    monkeypatch.setattr(module, "learn", counted)
    result = evaluate(TABLE, ("em", "loglinear"), folds=3, gold_labels=60, draws=2)
    # Each method is learned without scores too, loglinear also without the bias for n/a.
    assert {name: learned.count(name) for name in set(learned)} == {"majority": 3, "em": 6, "loglinear": 18}
    assert result.gold_per_fold == 60
    once = evaluate(TABLE, ("em", "loglinear"), folds=3, gold_labels=60)
    assert result.methods["em"].accuracy == once.methods["em"].accuracy
    assert result.methods["em"].by_attribute == once.methods["em"].by_attribute


def test_the_spread_is_in_the_record_and_in_the_words() -> None:
    result = evaluate(TABLE, ("loglinear",), folds=3, gold_labels=60, draws=3)
    told = json.loads(json.dumps(result.to_json(), allow_nan=False))
    found = told["spread"]["loglinear"]
    assert told["draws"] == 3
    assert set(told["spread"]) == {"loglinear", "loglinear_without_na_bias", "loglinear_without_scores"}
    assert found["lowest"] < found["mean"] < found["highest"]
    assert found["mean"] == pytest.approx(told["methods"]["loglinear"]["accuracy"])
    low, high = (100 * found[end] for end in ("lowest", "highest"))
    words = f"60 labels of yours may give {low:.1f} % to {high:.1f} % (3 draws, loglinear)"
    assert [line for line in result.notes if "labels of yours" in line] == [words]
    plain = evaluate(TABLE, ("majority",), folds=3).to_json()
    assert "draws" not in plain
    assert "spread" not in plain
    assert not any("labels of yours" in line for line in plain["notes"])


def test_the_learning_curve_has_a_band() -> None:
    curve = learning_curve(TABLE, (20, 200), folds=3, draws=5)
    assert all(found.lowest < found.mean < found.highest for found in curve.values())
    assert curve[20].highest - curve[20].lowest > curve[200].highest - curve[200].lowest
    assert spread(np.array([[True, False], [True, True]])) == curve[20].__class__(0.75, 0.5, 1.0)


def test_gold_labels_are_drawn_20_times_unless_said_otherwise(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    write_votes(TABLE, votes)
    options = quorum.EvaluateOptions(methods=("majority",), folds=2, gold_labels=50)
    assert quorum.evaluate(votes, options=options).draws == 20
    runner = CliRunner()
    arguments = ["evaluate", str(votes), "--methods", "loglinear", "--folds", "2", "--gold-labels", "60"]
    done = runner.invoke(app, [*arguments, "--draws", "2", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["draws"] == 2
    refused = runner.invoke(app, ["evaluate", str(votes), "--draws", "3"])
    assert refused.exit_code == 1
    assert "say how many by --gold-labels" in refused.stderr
