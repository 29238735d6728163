# SPDX-License-Identifier: Apache-2.0
"""Learn, update, drift, evaluate and label with a deployment that has every kind of answer."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import quorum
from quorum.decision import weights as weights_file
from quorum.learning.learn import LearnError
from quorum.review.sheet import read_sheet
from quorum.votes import Cell, VotesTable, build_table, read_votes, write_votes

TEXT = "red cotton shoe for men"
ANSWERS: Mapping[str, tuple[str, str]] = {
    "entities": ('[["red","color"],["cotton shoe","product"]]', '[["red cotton","color"]]'),
    "grade": ("exact", "close"),
    "materials": ('["cotton"]', '["wool"]'),
    "summary": ("a red shoe of cotton", "good for men"),
    "color": ("red", "blue"),
}
MEMBERS = ("good", "fair", "poor")
ATTRIBUTES: dict[str, Any] = {
    "entities": {"kind": "spans", "values": ["color", "product"]},
    "grade": {"kind": "label", "values": ["exact", "close"]},
    "materials": {"many": True, "values": ["cotton", "wool", "steel"]},
    "summary": {"kind": "text"},
    "color": {"values": ["red", "blue"]},
}


def votes_table(seed: int, products: int = 60, gold: bool = True) -> VotesTable:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(products):
        for name, (best, other) in ANSWERS.items():
            votes = tuple(best if rng.random() < chance else other for chance in (0.9, 0.7, 0.5))
            rows.append(Cell(f"p{seed}-{number}", "", TEXT, name, votes, (best,) if gold else ()))
    return build_table(MEMBERS, rows)


@pytest.fixture
def deployment(tmp_path: Path) -> quorum.Deployment:
    write_votes(votes_table(1), tmp_path / "votes.jsonl")
    members = [{"name": name, "runtime": "replay", "options": {"votes": "votes.jsonl"}} for name in MEMBERS]
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump({"members": members, "attributes": ATTRIBUTES}), encoding="utf-8")
    return quorum.load_deployment(path)


def test_learn_then_a_day_then_drift(deployment: quorum.Deployment, tmp_path: Path) -> None:
    weights = tmp_path / "weights.json"
    learned = quorum.learn(tmp_path / "votes.jsonl", deployment, out=weights)
    assert learned.judged is not None
    assert learned.judged.accuracy.value >= learned.judged.majority.value
    assert learned.judged.unit.startswith("mean score (1 or 0 of values, F1 of spans")
    assert any(line.startswith("entities: each thing named counts") for line in learned.remarks)
    assert any(line.startswith("summary: the most similar text wins") for line in learned.remarks)
    assert set(learned.weights.attributes) >= {"entities", "materials", "summary"}
    write_votes(votes_table(2), tmp_path / "day.jsonl")
    options = quorum.LearnOptions(update=weights)
    for given in (deployment, None):
        # Without a deployment the kinds are those that the weights record.
        day = quorum.learn(tmp_path / "day.jsonl", given, options)
        assert day.weights.settings["kinds"] == learned.weights.settings["kinds"]
        assert day.drift is not None
        assert not day.drift.findings
        assert any("summary: a state holds no texts" in line for line in day.remarks)
        assert day.weights.attributes["summary"] == learned.weights.attributes["summary"]
    notes: list[str] = []
    assert not quorum.drift(weights, tmp_path / "day.jsonl", note=notes.append).findings
    assert any(line.startswith("summary: whether members write other texts") for line in notes)
    broken = [replace(c, values=(ANSWERS[c.attribute][1], *c.values[1:])) for c in votes_table(3, 150).cells]
    write_votes(build_table(MEMBERS, broken), tmp_path / "broken.jsonl")
    assert quorum.drift(weights, tmp_path / "broken.jsonl").findings
    texts = [cell for cell in votes_table(2).cells if cell.attribute == "summary"]
    write_votes(build_table(MEMBERS, texts), tmp_path / "texts.jsonl")
    with pytest.raises(quorum.QuorumError, match="no votes to compare"):
        quorum.drift(weights, tmp_path / "texts.jsonl")


def test_a_state_of_whole_answers_is_not_mixed_with_things(
    deployment: quorum.Deployment, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.json"
    quorum.learn(tmp_path / "votes.jsonl", None, quorum.LearnOptions(judge=False), out=weights)
    write_votes(votes_table(2), tmp_path / "day.jsonl")
    options = quorum.LearnOptions(update=weights)
    without = quorum.learn(tmp_path / "day.jsonl", None, options)
    assert any(line.startswith("entities: answers look like spans") for line in without.remarks)
    day = quorum.learn(tmp_path / "day.jsonl", deployment, options, out=weights)
    line = next(line for line in day.remarks if "another kind of answer" in line)
    assert line.startswith("entities, materials, summary: earlier votes")
    alone = quorum.learn(tmp_path / "day.jsonl", deployment, quorum.LearnOptions(judge=False))
    assert day.weights.attributes["entities"].weights == alone.weights.attributes["entities"].weights
    # The kinds are recorded now, so that the next day says nothing.
    write_votes(votes_table(3), tmp_path / "next.jsonl")
    assert not any("another kind" in r for r in quorum.learn(tmp_path / "next.jsonl", None, options).remarks)


def test_learned_weights_are_judged_by_the_method_of_each_part(
    deployment: quorum.Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of spans alone teach spans; values are judged by what was written for them."""
    rows = [
        replace(c, gold=c.gold if c.attribute in ("entities", "summary") else ())
        for c in votes_table(1).cells
    ]
    write_votes(build_table(MEMBERS, rows), tmp_path / "some.jsonl")
    seen: list[Any] = []

    def kept(*given: Any, **named: Any) -> None:
        seen.extend(given)

    monkeypatch.setattr("quorum.operations.learn.judge_learned", kept)
    learned = quorum.learn(tmp_path / "some.jsonl", deployment)
    table, weights, _, again, *_ = seen
    relearned = again(table)
    assert (relearned.default, relearned.attributes) == (weights.default, weights.attributes)
    assert learned.weights.method == "loglinear"
    assert not any("products' texts" in line for line in learned.remarks)


def test_a_bias_is_chosen_by_the_part_of_values(deployment: quorum.Deployment, tmp_path: Path) -> None:
    rows = [replace(c, gold=c.gold if c.attribute == "entities" else ()) for c in votes_table(1).cells]
    write_votes(build_table(MEMBERS, rows), tmp_path / "some.jsonl")
    learned = quorum.learn(tmp_path / "some.jsonl", deployment, quorum.LearnOptions(na_bias=-1.0))
    assert learned.weights.default.na_bias < 0.0
    with pytest.raises(LearnError, match="loglinear: a bias for n/a"):
        quorum.learn(tmp_path / "votes.jsonl", deployment, quorum.LearnOptions(na_bias=-1.0))


def test_answers_that_cannot_be_read_are_named(deployment: quorum.Deployment, tmp_path: Path) -> None:
    rows = [replace(c, gold=("nothing",)) if c.attribute == "entities" else c for c in votes_table(1).cells]
    write_votes(build_table(MEMBERS, rows), tmp_path / "bad.jsonl")
    line = "entities: 60 gold answers cannot be read and do not count, first of product p1-0"
    learned = quorum.learn(tmp_path / "bad.jsonl", deployment, out=tmp_path / "weights.json")
    assert any(remark.startswith(line) for remark in learned.remarks)
    found = quorum.evaluate(tmp_path / "bad.jsonl", deployment)
    assert any(note.startswith(line) for note in found.notes)
    assert "entities" not in found.tasks
    notes: list[str] = []
    quorum.evaluate_weights(tmp_path / "bad.jsonl", tmp_path / "weights.json", note=notes.append)
    assert any(note.startswith(line) for note in notes)


def test_evaluate_given_weights_with_and_without_a_deployment(
    deployment: quorum.Deployment, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.json"
    quorum.learn(tmp_path / "votes.jsonl", deployment, out=weights)
    write_votes(votes_table(2), tmp_path / "new.jsonl")
    with_it = quorum.evaluate_weights(tmp_path / "new.jsonl", weights, deployment)
    without = quorum.evaluate_weights(tmp_path / "new.jsonl", weights)
    assert with_it.tasks == without.tasks
    assert with_it.weights == without.weights
    assert with_it.tasks["entities"].headline == "f1"


def test_texts_alone_are_judged_by_weights_of_other_references(
    deployment: quorum.Deployment, tmp_path: Path
) -> None:
    texts = [cell for cell in votes_table(1).cells if cell.attribute == "summary"]
    write_votes(build_table(MEMBERS, texts), tmp_path / "texts.jsonl")
    learned = quorum.learn(tmp_path / "texts.jsonl", deployment)
    assert learned.weights.method == "consensus"
    assert learned.judged is not None
    assert learned.judged.accuracy.value > learned.judged.majority.value + 0.05
    found = quorum.evaluate_weights(tmp_path / "texts.jsonl", learned.weights, deployment)
    assert (found.gold_outside, found.trained_on) == (0, True)


def test_spans_without_a_deployment_are_named(deployment: quorum.Deployment, tmp_path: Path) -> None:
    learned = quorum.learn(tmp_path / "votes.jsonl", None, quorum.LearnOptions(judge=False))
    assert any(line.startswith("entities: answers look like spans") for line in learned.remarks)
    assert "kinds" not in learned.weights.settings


def test_votes_read_in_a_stream_have_single_values(
    deployment: quorum.Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("quorum.votes.read.LARGE", 10)
    write_votes(votes_table(1), tmp_path / "votes.parquet")
    with pytest.raises(LearnError, match=r"entities, materials.* fewer products"):
        quorum.learn(tmp_path / "votes.parquet", deployment)
    single = [c for c in votes_table(1).cells if c.attribute in ("color", "grade")]
    write_votes(build_table(MEMBERS, single), tmp_path / "single.parquet")
    learned = quorum.learn(tmp_path / "single.parquet", deployment)
    assert learned.weights.settings["kinds"] == {"grade": "label"}
    assert weights_file.loads(weights_file.dumps(learned.weights)) == learned.weights


def filled(sheet: Path, gold: Mapping[str, str]) -> list[dict[str, str]]:
    """Fill in the gold of a sheet by attribute, and return its rows."""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["gold"] = gold[row["attribute"]]
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_sheet_of_every_kind(deployment: quorum.Deployment, tmp_path: Path) -> None:
    votes, sheet = tmp_path / "blank.jsonl", tmp_path / "label.csv"
    write_votes(votes_table(5, 4, gold=False), votes)
    catalogue = deployment.catalogue()
    report = quorum.choose_sheet(votes, sheet, 20, catalogue=catalogue)
    assert report.remarks == ()
    gold = {
        "entities": '[["cotton shoe", "product"], ["RED", "color"]] | []', "grade": "Exact",
        "materials": "wool | Cotton", "summary": "Red | blue, a shoe.", "color": "blue | red",
    }  # fmt: skip
    rows = filled(sheet, gold)
    allowed = {row["attribute"]: row["allowed"] for row in rows}
    assert allowed["grade"] == "exact | close"
    assert allowed["entities"].endswith("types: color | product")
    assert allowed["materials"] == "all that apply of 'cotton', 'wool', 'steel', between them '|'"
    assert allowed["color"] == allowed["summary"] == ""
    done = quorum.apply_sheet(votes, sheet, tmp_path / "gold.jsonl", catalogue=catalogue)
    assert done.refused == ()
    found = {cell.attribute: cell.gold for cell in read_votes(tmp_path / "gold.jsonl").cells}
    assert found == {
        "entities": ('[["red","color"],["cotton shoe","product"]]', "[]"), "grade": ("exact",),
        "materials": ('["cotton","wool"]',), "summary": ("Red | blue, a shoe.",),
        "color": ("blue", "red"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("attribute", "gold", "message"),
    [
        ("entities", "red", "is no JSON.*write"),
        ("entities", '[["red"]]', r"is no pair \[text, type\]"),
        ("entities", '[["red","colour"]]', "'colour' is no type of entities.*did you mean 'color'"),
        ("entities", '[["green","color"]]', "'green' is not in 'red cotton shoe for men'; copy"),
        ("entities", '[["red cotton","color"],["cotton shoe","product"]]', "overlap; keep one"),
        ("grade", "n/a", "'n/a' is no value of grade: 'exact', 'close'$"),
        ("materials", "cotton | glass", "'glass' is no value of materials"),
    ],
)
def test_bad_gold_is_named_with_its_row(
    deployment: quorum.Deployment, tmp_path: Path, attribute: str, gold: str, message: str
) -> None:
    votes, sheet = tmp_path / "blank.jsonl", tmp_path / "label.csv"
    cells = [cell for cell in votes_table(5, 1, gold=False).cells if cell.attribute == attribute]
    write_votes(build_table(MEMBERS, cells), votes)
    quorum.choose_sheet(votes, sheet, 5, catalogue=deployment.catalogue())
    filled(sheet, {attribute: gold})
    done = quorum.apply_sheet(votes, sheet, tmp_path / "gold.jsonl", catalogue=deployment.catalogue())
    (line,) = done.refused
    assert re.search(f", row 2: .*{message}", line)
    assert not (tmp_path / "gold.jsonl").exists()


def test_a_value_in_brackets_is_no_list(tmp_path: Path) -> None:
    sheet = tmp_path / "label.csv"
    sheet.write_text("product,attribute,gold\np,x,[Used] Nike | Nike\np,y,[Used] | [New]\n", encoding="utf-8")
    assert [row.gold for row in read_sheet(sheet)] == [("[Used] Nike", "Nike"), ("[Used]", "[New]")]


def test_lists_in_a_sheet_are_split_without_a_catalogue(tmp_path: Path) -> None:
    sheet = tmp_path / "label.csv"
    sheet.write_text('product,attribute,gold\np,x,"[[""a | b"",""c""]] | []"\np,y,a | b\n', encoding="utf-8")
    assert [row.gold for row in read_sheet(sheet)] == [('[["a | b","c"]]', "[]"), ("a", "b")]


def test_normalising_votes_leaves_json_alone(deployment: quorum.Deployment, tmp_path: Path) -> None:
    before = read_votes(tmp_path / "votes.jsonl")
    report = quorum.normalise_votes(tmp_path / "votes.jsonl", deployment, tmp_path / "same.jsonl")
    assert json.loads(json.dumps(report.to_json()))
    assert read_votes(tmp_path / "same.jsonl").data_hash() == before.data_hash()
