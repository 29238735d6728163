# SPDX-License-Identifier: Apache-2.0
"""Task data made up: deterministic, its gold follows from the texts, and members can be tuned on it."""

import json
from functools import cache
from pathlib import Path

import made_up
import pytest
from vocabulary import is_unseen, known_brands

from quorum.deployment.load import load_deployment
from quorum.tune.data import read_gold

DEPLOY = Path(made_up.__file__).with_name("deploy.yaml")
ATTRIBUTES = {
    "attributes": made_up.ATTRIBUTES,
    "entities": ("entities",),
    "relevance": ("relevance",),
    "descriptions": ("description",),
}
FIELDS = {"relevance": ("query", "title"), "descriptions": ("title", "known")}


@cache
def rows(task: str, split: str = "train"):
    return made_up.rows(task, split, 200)


@pytest.mark.parametrize("task", made_up.TASKS)
def test_same_seed_same_rows_and_splits_share_none(task):
    assert made_up.rows(task, "train", 20) == rows(task)[:20]
    assert made_up.rows(task, "train", 20, seed=1) != rows(task)[:20]
    texts = [{json.dumps({**row, "id": "", "gold": 0}) for row in rows(task, s)} for s in made_up.SPLITS]
    assert all(len(own) == 200 for own in texts)
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


@pytest.mark.parametrize("task", made_up.TASKS)
def test_the_catalogue_of_the_deployment_allows_the_gold(task, tmp_path):
    catalogue = load_deployment(DEPLOY).catalogue()
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(task))))
    data = read_gold(path, ATTRIBUTES[task], catalogue)
    assert (len({row.row for row in data.rows}), data.left_out) == (200, 0)
    assert {catalogue.get(name).kind for name in ATTRIBUTES[task]} == {made_up.KINDS[task]}
    assert {catalogue.get(name).fields for name in ATTRIBUTES[task]} == {FIELDS.get(task, ())}


def test_spans_are_the_whole_query_in_order():
    for row in rows("entities"):
        assert " ".join(words for words, _ in row["gold"]["entities"]) == row["text"]
    types = {kind for row in rows("entities") for _, kind in row["gold"]["entities"]}
    assert {"creator", "color", "core_product_type", "UoM"} <= types


def test_relevance_follows_from_the_facts_that_query_and_title_share():
    labels = [row["gold"]["relevance"][0] for row in rows("relevance")]
    assert set(labels) == set(made_up.SHARES)
    for label, share in made_up.SHARES.items():
        assert labels.count(label) / len(labels) == pytest.approx(share, abs=0.12)
    for row in rows("relevance"):
        words, title = set(row["query"].split()), set(row["title"].lower().split())
        label = row["gold"]["relevance"][0]
        assert (words <= title) == (label == "exact"), row


def test_descriptions_name_what_is_known():
    for row in rows("descriptions"):
        (text,) = row["gold"]["description"]
        known = dict(part.split(": ") for part in row["known"].split("; "))
        assert all(value in text for value in known.values())
        assert len(text) < 200
        assert ("dress " not in text) or (" comes in " in text)


def test_brands_of_test_rows_are_held_out():
    listed = {name.lower() for name in known_brands(40)}
    for split, unseen in (("train", False), ("test", True)):
        brands = [
            words
            for row in rows("entities", split)
            for words, kind in row["gold"]["entities"]
            if kind == "creator"
        ]
        assert brands
        assert all(is_unseen(name) == unseen and (name in listed) != unseen for name in brands)


def test_files_are_written_for_every_task_and_split(tmp_path):
    counts = made_up.write(tmp_path, {"train": 3, "test": 2})
    assert counts["entities-train.jsonl"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(counts)
    assert len(counts) == 8
    first = json.loads((tmp_path / "relevance-test.jsonl").read_text().splitlines()[0])
    assert first["id"] == "relevance-test-0001"
