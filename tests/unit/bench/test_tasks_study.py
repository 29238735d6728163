# SPDX-License-Identifier: Apache-2.0
"""What the study of tasks reads, makes and keeps: ESCI's files, public data, members, worked examples."""

from __future__ import annotations

import dataclasses
import gzip
import json

import pytest
from support.task_study import row, world

from quorum.decision.spans import dump_spans
from quorum.tune.data import TrainingData
from quorum_bench.studies.task_tables import spans_of
from quorum_bench.studies.tasks import (
    asked,
    esci,
    inputs,
    llms,
    made,
    merging,
    self_teaching,
    sources,
)
from quorum_bench.studies.tasks.parts import PARTS


def test_thinning_leaves_as_many_blank_answers_as_values():
    rows = [row("v", ("x",))] * 3 + [row("b", ("n/a",), attribute="b")] * 20
    data = TrainingData(tuple(rows), ("a", "b"), "votes", "sha256:0", 5)
    found = self_teaching.thinned(data, 1.0)
    assert [r.answers[0] for r in found.rows].count("n/a") == 3
    assert found.left_out == 5 + 17
    assert self_teaching.thinned(data, 0.0).tasks == ("a",)
    assert self_teaching.thinned(data, 100.0).rows == data.rows


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


def test_every_part_has_a_head_and_a_command():
    from quorum_bench.cli.study_tasks import TasksPart

    assert set(PARTS) == {part.value for part in TasksPart}
    assert all(part.head and part.title for part in PARTS.values())
