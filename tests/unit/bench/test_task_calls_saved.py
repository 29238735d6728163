# SPDX-License-Identifier: Apache-2.0
"""LLM calls that the study of tasks saves: cascades, lazy votes, and what each member adds."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.votes import Cell, build_table
from quorum_bench.studies.tasks import (
    cascade,
    ensemble,
    inputs,
    members,
)


def test_the_surest_cells_are_those_with_the_highest_confidence():
    confidence = np.array([0.1, 0.9, 0.5, 0.7])
    assert cascade.surest(confidence, 0.5).tolist() == [False, True, False, True]
    assert not cascade.surest(confidence, 0.0).any()
    assert cascade.surest(confidence, 1.0).all()


def test_a_cascade_takes_the_cheap_answer_where_it_answers_alone():
    alone, cheap, dear = (np.array(flags, bool) for flags in ([1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]))
    assert cascade.cascaded(alone, cheap, dear).tolist() == [True, False, False, True]


def test_the_lossless_threshold_keeps_the_number_of_right_cells():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.ones(4, bool)
    assert cascade.threshold(confidence, right, right) == 0.6
    assert cascade.threshold(confidence, ~right, right) == float("inf")
    # The second loses a cell, the third wins it back, the fourth loses again.
    cheap, dear = np.array([1, 0, 1, 0], bool), np.array([1, 1, 0, 1], bool)
    assert cascade.threshold(confidence, cheap, dear) == 0.7
    # With most right cells: none is ever gained, so as few are lost as with the lowest.
    assert cascade.threshold(confidence, cheap, dear, cautious=True) == 0.7
    better = np.array([1, 1, 0, 1], bool), np.array([0, 1, 1, 1], bool)
    assert cascade.threshold(confidence, *better, cautious=True) == 0.8
    # Cells that are equally sure are taken together.
    assert cascade.threshold(np.full(4, 0.5), cheap, dear) == float("inf")


def test_the_threshold_of_a_fold_comes_from_the_others():
    fold = np.array([0, 0, 1, 1])
    confidence = np.array([0.9, 0.2, 0.8, 0.3])
    right = np.ones(4, bool)
    alone = cascade.alone_held_out(confidence, right, right, fold)
    assert alone.tolist() == [True, False, True, True]


def test_a_lazy_vote_decides_as_all_votes_and_may_begin_with_the_cheap_member():
    cells = [
        Cell("p0", "", "t", "a", ("x", "x", "x"), ("x",)),
        Cell("p1", "", "t", "a", ("x", "y", "y"), ("x",)),
        Cell("p2", "", "t", "a", (None, "y", "x"), ("x",)),
    ]
    table = build_table(("llm_1", "llm_2", "encoder"), cells)
    weights = Weights("majority", table.members, Parameters((1.0, 1.0, 1.0)))
    found = cascade.lazy(table, weights, (1.0, 1.0, 0.01))
    assert found.same == 3
    assert found.asked[:, 2].all()
    assert found.asked.sum(axis=1).tolist() == [2, 3, 3]
    plain = cascade.lazy(table, weights, (1.0, 1.0, 1.0))
    assert plain.asked[0].tolist() == [True, True, False]


def votes_world():
    """Three LLMs that err together, and an encoder that errs elsewhere; 80 products."""
    rng = np.random.default_rng(0)
    cells = []
    for product in range(80):
        llms = ["x"] * 3 if product % 5 else ["y"] * 3
        own = "x" if rng.random() < 0.8 else "z"
        cells.append(
            Cell(f"p{product}", "", "t", "a", (*llms, own), ("x",), scores=(None,) * 3 + (-rng.random(),))
        )
    return members.World([build_table(("one", "two", "three", ensemble.ENCODER), cells)])


def test_rows_of_members_compare_with_the_best_llm_and_with_all_of_them():
    found = votes_world()
    alone = {r["who"]: r for r in members.alone(found)}
    assert alone["one"]["accuracy"].value == pytest.approx(0.8)
    assert alone["any of five right"]["accuracy"].value == pytest.approx(0.8)
    assert alone["any of six right"]["accuracy"].value > 0.8
    right = {
        "five LLMs": members.learned_right(ensemble.only(found.first, found.llms), 50, 2),
        "five LLMs and encoder": members.learned_right(found.first.without_scores(), None, 5),
    }
    assert right["five LLMs"].shape == (80, 2)
    rows = list(members.compared(found, 50, right))
    assert "to_five" not in rows[0]
    assert rows[1]["to_five"].value == pytest.approx(rows[1]["accuracy"].value - rows[0]["accuracy"].value)
    assert all(members.line(r) for r in [*rows, *alone.values()])
    assert members.attributes(found, right)[0]["cells"] == 80


def test_savings_end_with_the_encoder_alone_and_lazy_votes_are_those_of_all():
    rows = list(members.saved(votes_world()))
    by_name = {r["saving"]: r for r in rows}
    assert by_name["cascade 0%"]["to_five"].value == 0.0
    assert by_name["cascade 100%"]["alone"].value == 1.0
    assert all(r["same"] == 100.0 for r in rows if "same" in r)
    assert by_name["lazy, five LLMs"]["llm_calls"].value <= 3
    assert all(members.line(r) for r in rows)


def test_a_served_table_must_repeat_the_recorded_answers():
    recorded = build_table(("one",), [Cell("p", "", "t", "a", ("x",), ("x",))])
    served = build_table(("one", "encoder"), [Cell("p", "", "t", "a", ("X", "x"), ("x",))])
    with pytest.raises(ValueError, match="1 cells were answered otherwise than recorded, such as 'a' of p"):
        ensemble.check_recorded(recorded, served)
    text = ensemble.deployment(inputs.Path("v.jsonl"), ["gpt-3.5-list"], ["Size"], inputs.Path("enc"))
    assert "name: gpt-35-list" in text
    assert "recorded_as: gpt-3.5-list" in text
