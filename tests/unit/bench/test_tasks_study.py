# SPDX-License-Identifier: Apache-2.0
"""The study of tasks: figures with intervals, cascades and lazy votes, what is kept, ESCI's files, tables."""

from __future__ import annotations

import dataclasses
import gzip
import json

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.spans import dump_spans
from quorum.decision.weights import Weights
from quorum.evaluation.stats import Estimate
from quorum.tune.data import TrainingData, TrainingRow
from quorum.votes import Cell, build_table
from quorum_bench.report.task_curves import size_curve
from quorum_bench.studies.task_tables import spans_of
from quorum_bench.studies.tasks import (
    asked,
    cascade,
    ensemble,
    esci,
    figures,
    inputs,
    llms,
    made,
    members,
    merging,
    self_teaching,
    sources,
    voting,
    zero_shot,
)
from quorum_bench.studies.tasks.parts import PARTS


def row(product: str, answers: tuple[str, ...], text: str = "red shoe", attribute: str = "a") -> TrainingRow:
    return TrainingRow(1, product, text, "", attribute, answers)


def world(tmp_path, effort=inputs.SHORT, folder=None):
    return inputs.Inputs(tmp_path, tmp_path / "bases", made.Cache(tmp_path / "cache"), effort, folder)


# Figures


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


# Calls saved


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


# Members


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


# Self-teaching


def test_thinning_leaves_as_many_blank_answers_as_values():
    rows = [row("v", ("x",))] * 3 + [row("b", ("n/a",), attribute="b")] * 20
    data = TrainingData(tuple(rows), ("a", "b"), "votes", "sha256:0", 5)
    found = self_teaching.thinned(data, 1.0)
    assert [r.answers[0] for r in found.rows].count("n/a") == 3
    assert found.left_out == 5 + 17
    assert self_teaching.thinned(data, 0.0).tasks == ("a",)
    assert self_teaching.thinned(data, 100.0).rows == data.rows


# Members that are kept


def test_a_member_that_is_there_is_not_tuned_again(tmp_path):
    from quorum.tune.card import Card, write_card

    cache, runs = made.Cache(tmp_path), []

    def tune(out, progress):
        runs.append(out)
        out.mkdir(exist_ok=True)
        write_card(
            Card(tasks=("a",), method="full", architecture="encoder", base="b", base_hash="h", steps=3), out
        )

    first = cache.make("name", ["a", 1], tune)
    again = cache.make("name", ["a", 1], tune)
    assert again == first
    assert len(runs) == 1
    assert first.to_json()["steps"] == 3
    assert cache.make("name", ["a", 2], tune).folder != first.folder


def test_the_time_of_an_interrupted_run_counts(tmp_path):
    clock = tmp_path / "x.cpu.json"
    clock.write_text('{"cpu_s": 100.0, "done": false}')
    assert made.Timer(clock, lambda step: None).stop() >= 100.0
    assert json.loads(clock.read_text())["done"]


def test_a_member_is_kept_by_the_settings_that_differ_from_the_usual():
    from quorum.tune.encoder import EncoderOptions

    assert made.chosen(EncoderOptions()) == {}
    assert made.chosen(EncoderOptions(seed=2, epochs=4)) == {"seed": 2, "epochs": 4}
    # Few queries are seen more often.
    assert [asked.epochs_of(rows) for rows in (100, 1000, 3000, 8000)] == [20, 10, 4, 3]


def test_what_was_computed_is_kept(tmp_path):
    cache, calls = made.Cache(tmp_path), []
    for _ in range(2):
        assert cache.kept("name", [1], lambda: calls.append(1) or ["x", None]) == ["x", None]
    assert len(calls) == 1


# Sources


def test_public_data_become_listings_with_gold(tmp_path):
    folder = tmp_path / "tasks/queryner"
    folder.mkdir(parents=True)
    query = {"id": 7, "tokens": ["red", "shoe"], "labels": ["B-color", "B-core_product_type"]}
    (folder / "test.jsonl.gz").write_bytes(gzip.compress(json.dumps(query).encode()))
    (found,) = sources.rows_to_judge(world(tmp_path), "queryner")
    assert found.product == "7"
    assert found.answers == (dump_spans("red shoe", spans_of(query["tokens"], query["labels"])),)
    pair = {"query": "shoe", "product_id": "1", "title": "Red shoe", "label": 3}
    assert sources.relevance(pair)["gold"] == {"relevance": ["exact"]}
    product = {"input": "Red shoe", "category": "Shoes", "target_scores": {"Color": {"Red": 1, "red": 1}}}
    assert sources.ae110k(product)["gold"] == {"Color": ["Red", "red"]}
    with pytest.raises(ValueError, match="is missing; name the folder of the public data by --data"):
        sources.listings(world(tmp_path), "relevance", "train")


def test_escis_official_files_become_listings(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    def judged(number, label="E", locale="us", split="train", product="B1"):
        return {
            "example_id": number,
            "query": " red\n shoe ",
            "query_id": 0,
            "product_id": product,
            "product_locale": locale,
            "esci_label": label,
            "split": split,
            "small_version": 1,
        }

    examples = [judged(1), judged(2, "S"), judged(3, "C"), judged(4, "I"), judged(5, locale="jp"),
                judged(6, split="test"), judged(7, product="B2")]  # fmt: skip
    products = [
        {"product_id": "B1", "product_locale": "us", "product_title": "Shoe", "product_description": "-",
         "product_bullet_point": "light\nsoft", "product_brand": "Acme", "product_color": "red"},
        {"product_id": "B1", "product_locale": "jp", "product_title": "Kutsu", "product_description": None,
         "product_bullet_point": None, "product_brand": None, "product_color": None},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(examples), tmp_path / esci.EXAMPLES)
    pq.write_table(pa.Table.from_pylist(products), tmp_path / esci.PRODUCTS)
    found = list(esci.read_esci(tmp_path, "train"))
    # B2 has no text, and is left out.
    assert [one["id"] for one in found] == ["1", "2", "3", "4"]
    assert found[0]["query"] == "red shoe"
    assert found[0]["title"] == "Shoe Acme red light soft"
    labels = [one["gold"]["relevance"][0] for one in found]
    assert labels == ["exact", "substitute", "complement", "irrelevant"]
    assert [one["id"] for one in esci.read_esci(tmp_path, "test")] == ["6"]
    assert len(list(esci.read_esci(tmp_path, "train", rows=2, seed=1))) <= 2
    rows = sources.rows_to_judge(world(tmp_path, folder=tmp_path), "esci")
    assert rows[0].text == "query: red shoe\ntitle: Shoe Acme red light soft"
    pq.write_table(pa.Table.from_pylist([judged(1, "X")]), tmp_path / esci.EXAMPLES)
    with pytest.raises(ValueError, match="example 1 has the label 'X'; known are E, S, C, I"):
        list(esci.read_esci(tmp_path, "train"))
    pq.write_table(pa.table({"query": ["a"]}), tmp_path / esci.EXAMPLES)
    with pytest.raises(ValueError, match="has no column 'example_id'"):
        list(esci.read_esci(tmp_path, "train"))
    with pytest.raises(ValueError, match="--esci names the folder with"):
        list(esci.read_esci(tmp_path / "none", "train"))


def test_a_base_that_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(ValueError, match="minilm holds no model; make it by"):
        _ = world(tmp_path).encoder


# LLMs


def test_rows_become_worked_examples_of_their_attribute():
    gold = json.dumps([["red", "color"]])
    rows = [row("p", (gold,), "red", "entities"), row("q", ("exact",), "query: a\ntitle: b", "relevance")]
    found = llms.with_examples(sources.CATALOGUE, rows)
    assert found.get("entities").examples[0].answer == [["red", "color"]]
    assert found.get("relevance").examples == (("query: a\ntitle: b", "exact"),)
    assert llms.Answered(["x", None]).parse_share == 0.5


def test_merging_needs_the_llm_and_known_methods(tmp_path):
    without = dataclasses.replace(inputs.SHORT, adapter=())
    with pytest.raises(ValueError, match="leave --no-llm out, or this part"):
        next(merging.rows(world(tmp_path, without)))
    odd = dataclasses.replace(inputs.SHORT, merges=("ties", "average"))
    with pytest.raises(ValueError, match="no merging method 'average'; use linear"):
        merging.methods(world(tmp_path, odd))
    lost = {"refused": "ties", "passed": False, "remarks": ["WARNING: lost"]}
    assert merging.line(lost).splitlines()[1:] == [
        "quorum tune merge --method ties --check: refused: exit code 1",
        "WARNING: lost",
    ]


# Tables


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


def test_every_part_has_a_head_and_a_command():
    from quorum_bench.cli.study_tasks import TasksPart

    assert set(PARTS) == {part.value for part in TasksPart}
    assert all(part.head and part.title for part in PARTS.values())
