# SPDX-License-Identifier: Apache-2.0
"""Figures of the study of tasks: with intervals, by seed, by attribute, in words, as a curve."""

from __future__ import annotations

import json

import pytest
from support.task_study import row

from quorum.evaluation.stats import Estimate
from quorum.votes import Cell, build_table
from quorum_bench.report.task_curves import size_curve
from quorum_bench.studies.tasks import (
    figures,
    voting,
    zero_shot,
)


def test_a_figure_of_seeds_is_their_mean_and_its_interval_holds_it():
    rows = [row(f"p{i}", ("x",)) for i in range(40)]
    good, bad = ["x"] * 40, ["x"] * 20 + [None] * 20
    found = figures.estimate(figures.ACCURACY, rows, [good, bad])
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high < 1.0
    assert figures.each_seed(figures.ACCURACY, rows, [good, bad]) == [1.0, 0.5]


def test_a_difference_has_the_same_products_on_both_sides():
    rows = [row(f"p{i % 7}", ("x",)) for i in range(35)]
    answers = ["x" if i % 3 else "y" for i in range(35)]
    found = figures.estimate(figures.ACCURACY, rows, [answers], [answers])
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_cells_of_a_product_are_drawn_together():
    rows = [row(f"p{i // 10}", ("x",)) for i in range(100)]
    answers = ["x" if i // 10 % 2 else "y" for i in range(100)]
    together = figures.estimate(figures.ACCURACY, rows, [answers])
    apart = figures.estimate(figures.ACCURACY, rows, [answers], groups=[str(i) for i in range(100)])
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_span_f1_counts_type_and_both_borders():
    def spans(*pairs):
        return json.dumps([list(pair) for pair in pairs])

    text = "red running shoe"
    gold = spans(("red", "color"), ("running shoe", "product"))
    rows = [row("p", (gold,), text, "entities")]
    half = spans(("red", "color"), ("shoe", "product"))
    assert figures.each_seed(figures.SPAN_F1, rows, [[gold], [half], [None]]) == [1.0, 0.5, 0.0]
    assert figures.each_seed(figures.WHOLE_ANSWERS, rows, [[gold], [half]]) == [1.0, 0.0]


def test_figures_in_words():
    assert figures.percent(Estimate(0.573, 0.551, 0.595)) == "57.3 [55.1, 59.5]"
    assert figures.points(Estimate(0.011, -0.001, 0.021)) == "+1.1 [-0.1, +2.1]"


def test_shares_by_attribute_begin_with_the_largest():
    rows = [row("p", ("x",), attribute="b"), *(row(f"q{i}", ("n/a", "x"), attribute="a") for i in range(2))]
    found = figures.by_attribute(rows, {"who": [["x", "n/a", "x"]]})
    # "n/a" is right where it is the preferred gold, and another acceptable answer is right too.
    assert found == [
        {"attribute": "a", "cells": 2, "who": 100.0},
        {"attribute": "b", "cells": 1, "who": 100.0},
    ]
    assert "who" in figures.attribute_lines(found)


def test_votes_of_columns_are_judged_by_the_kind_of_answer():
    gold = json.dumps([["red", "color"]])
    rows = [row(f"p{i}", (gold,), attribute="entities") for i in range(20)]
    table = voting.voted(rows, {"one": [gold] * 20, "two": [None] * 20, "three": [gold] * 10 + ["[]"] * 10})
    found = list(voting.judged("made up", table, voting.TUNED, ("three",)))
    assert {r["headline"] for r in found} == {"f1"}
    assert found[0]["who"] == "one"
    assert found[1]["role"].startswith("encoder")
    assert all(voting.line(r) for r in found)


def test_a_random_review_is_the_mean_of_the_reviews():
    cells = [Cell("p", "", "t", "summary", ("a b", "a b", "c d"), ("a b",))]
    found = voting.random_review(build_table(("fewsum", "review_1", "review_2"), cells))
    assert found["figures"]["rouge_l"].value == pytest.approx(0.5)


def test_lines_of_the_encoder_and_of_llms():
    some = Estimate(0.8, 0.7, 0.9)
    own = {"who": "encoder", "accuracy": some, "seeds": [0.8, 0.7], "made": [{"cpu_s": 300.0}]}
    assert zero_shot.line(own).split() == ["encoder", "80.0", "[70.0,", "90.0]", "300", "80.0", "70.0"]
    assert "+80.0" in zero_shot.line({"who": "gpt", "accuracy": some, "encoder_to_it": some})


def test_the_curve_has_a_line_per_member_and_levels_for_the_rest():
    pytest.importorskip("matplotlib")
    some = Estimate(0.5, 0.4, 0.6)

    def figure(who, rows):
        return {"task": "queryner", "who": who, "rows": rows, "measure": "F1", "figure": some}

    rows = [figure("encoder", 320), figure("encoder", 1000), figure("LLM", 320), figure("rater_1", 0)]
    svg = size_curve(rows, "queryner")
    assert svg.startswith("<svg")
    assert "best rater" in svg
    assert not size_curve(rows, "relevance")
