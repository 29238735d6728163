# SPDX-License-Identifier: Apache-2.0
"""Rows to train on: what is read, and what is refused, with row numbers, before any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from quorum.bulk.listings import ListingsError
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.confident import read_confident
from quorum.tune.data import ALL, TrainingDataError, joined, read_gold
from quorum.tune.remarks import remarks_on
from quorum.tune.split import group_near_duplicates, split

CATALOGUE = Catalogue.of(
    [
        Attribute("colour", values=("red", "grey"), synonyms={"gray": "grey"}),
        Attribute("grade", kind="label", values=("exact", "not"), allow_na=False, fields=("query", "title")),
        Attribute("parts", kind="spans", values=("brand", "thing")),
        Attribute("about", kind="text", max_chars=20),
    ]
)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_gold_is_spelled_like_votes(tmp_path: Path) -> None:
    rows = [
        {"text": "a gray cap", "gold": {"colour": ["GRAY"], "parts": [["cap", "thing"]]}},
        {"text": "no answer", "gold": {"parts": []}},
    ]
    data = read_gold(write(tmp_path / "gold.jsonl", rows), [ALL], CATALOGUE)
    assert [(row.row, row.attribute, row.answers) for row in data.rows] == [
        (1, "colour", ("grey",)),
        (1, "parts", ('[["cap","thing"]]',)),
        (2, "parts", ("[]",)),
    ]
    assert (data.source, data.tasks, data.left_out) == ("gold", ("colour", "parts"), 0)


def test_csv_is_read_like_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text('query,title,gold\ncap,red cap,"{""grade"": [""exact""]}"\n', encoding="utf-8")
    (row,) = read_gold(path, ["grade"], CATALOGUE).rows
    assert (row.text, row.answers) == ("query: cap\ntitle: red cap", ("exact",))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "cap", "gold": {"colour": ["mauve"]}}, "unknown value 'mauve'; allowed are red, grey"),
        ({"text": " ", "gold": {"colour": ["red"]}}, "its text is empty"),
        ({"text": "cap", "gold": {"colour": [" "]}}, "an answer is empty"),
        ({"text": "cap", "gold": {"colour": [["cap", "thing"]]}}, "kind 'value' has texts as gold"),
        ({"text": "cap", "gold": {"parts": [["hat", "thing"]]}}, "the text has no 'hat'"),
        ({"text": "cap", "gold": {"parts": [["cap", "size"]]}}, "unknown type 'size'"),
        ({"text": "cap", "gold": {"parts": ["cap"]}}, "is no pair"),
        ({"text": "cap", "gold": {"parts": [["", "thing"]]}}, "is empty"),
        (
            {"text": "acme cap", "gold": {"parts": [["acme cap", "thing"], ["acme", "brand"]]}},
            "'brand' and 'thing' overlap at character 0",
        ),
        ({"text": "cap", "gold": {"about": ["a text that is far too long"]}}, "max_chars is 20"),
    ],
)
def test_a_row_that_cannot_be_learned_is_named(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    (task,) = row["gold"]
    good = {"text": "red cap", "gold": {task: [["red", "thing"]] if task == "parts" else ["red"]}}
    path = write(tmp_path / "gold.jsonl", [good, row])
    with pytest.raises(TrainingDataError) as refused:
        read_gold(path, [task], CATALOGUE)
    assert "gold.jsonl: 1 row cannot be trained on" in str(refused.value)
    assert "row 2: " in str(refused.value)
    assert problem in str(refused.value)


def test_of_many_bad_rows_five_are_named_and_all_counted(tmp_path: Path) -> None:
    rows = [{"text": "cap", "gold": {"colour": [f"mauve{number}"]}} for number in range(9)]
    with pytest.raises(TrainingDataError, match="9 rows cannot") as refused:
        read_gold(write(tmp_path / "gold.jsonl", rows), ["colour"], CATALOGUE)
    assert str(refused.value).count("\n  row ") == 5
    assert "and 4 more" in str(refused.value)


def test_a_task_without_gold_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "gold.jsonl", [{"text": "cap", "gold": {"colour": ["red"]}}])
    with pytest.raises(TrainingDataError, match="no row has gold for 'parts', only for colour"):
        read_gold(path, ["parts"], CATALOGUE)


def test_a_column_in_place_of_gold_is_answered_with_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("title,colour\nred cap,red\n", encoding="utf-8")
    with pytest.raises(TrainingDataError) as refused:
        read_gold(path, ["colour"], CATALOGUE)
    assert str(refused.value).endswith(
        "no row has gold for 'colour' (a column 'colour' is not read as gold); gold is a JSON column `gold`,"
        ' {attribute: [answers]}, for example "{""colour"": [""red""]}"'
    )
    with pytest.raises(TrainingDataError, match="no row has gold; gold is a JSON column"):
        read_gold(path, [ALL], CATALOGUE)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_gold_may_be_separated_by_other_characters(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "gold.csv"
    gold = '"{""colour"": [""red""]}"'
    path.write_text(f"title{separator}gold\n{separator.join(('red cap, new', gold))}\n", encoding="utf-8")
    (row,) = read_gold(path, ["colour"], CATALOGUE).rows
    assert row.text == "red cap, new"


def test_a_text_column_is_to_be_named_without_an_option(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text('words,gold\nred cap,"{""colour"": [""red""]}"\n', encoding="utf-8")
    with pytest.raises(ListingsError, match=r"Name the column of the text title, text, input or name$"):
        read_gold(path, ["colour"], CATALOGUE)


def test_rows_of_a_csv_count_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text('title,gold\ncap,"{""colour"": [""mauve""]}"\n', encoding="utf-8")
    with pytest.raises(TrainingDataError, match=r"\(row 1 is the one below the header\)(.|\n)*row 1: colour"):
        read_gold(path, ["colour"], CATALOGUE)


def test_remarks_name_what_weakens_figures(tmp_path: Path) -> None:
    rows = [{"text": f"cap {n}", "gold": {"colour": ["red"]}} for n in range(12)] + [{"text": "x"}]
    data = read_gold(write(tmp_path / "gold.jsonl", rows), ["colour"], CATALOGUE)
    assert remarks_on(data, {"too long": 2, "near": 0}, 2) == (
        "12 rows: figures on so few say little",
        "all rows of colour have the answer 'red': nothing else is learned",
        "left out: 1 without gold for colour, 2 too long",
    )
    table = votes(tmp_path / "votes.jsonl", [(f"cap {n}", "colour", ["red"] * 3) for n in range(30)])
    assert "figures are against the votes' own answers, not against gold" in remarks_on(
        read_confident(table, ["colour"], CATALOGUE), {}, 20
    )


def test_rows_are_drawn_by_seed(tmp_path: Path) -> None:
    rows = [{"text": f"cap {n}", "gold": {"colour": ["red"]}} for n in range(50)] + [
        {"text": "x", "gold": {}}
    ]
    path = write(tmp_path / "gold.jsonl", rows)
    drawn = [[row.row for row in read_gold(path, ["colour"], CATALOGUE, 10, seed).rows] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10
    assert read_gold(path, ["colour"], CATALOGUE, 10).left_out == 1
    with pytest.raises(TrainingDataError, match="--rows 51, but 50 rows have an answer"):
        read_gold(path, ["colour"], CATALOGUE, 51)


def test_tasks_with_different_fields_are_not_read_together(tmp_path: Path) -> None:
    path = write(tmp_path / "gold.jsonl", [{"text": "cap", "gold": {"colour": ["red"]}}])
    with pytest.raises(TrainingDataError, match="different fields"):
        read_gold(path, ["colour", "grade"], CATALOGUE)


def test_all_reads_the_fields_of_the_attributes_found(tmp_path: Path) -> None:
    rows = [{"query": "tea", "title": "pot", "gold": {"grade": ["exact"]}}]
    (row,) = read_gold(write(tmp_path / "gold.jsonl", rows), [ALL], CATALOGUE).rows
    assert row.text == "query: tea\ntitle: pot"
    rows.append({"query": "red", "title": "cap", "gold": {"colour": ["red"]}})
    with pytest.raises(TrainingDataError, match="grade, colour are asked of texts with different fields"):
        read_gold(write(tmp_path / "gold.jsonl", rows), [ALL], CATALOGUE)


def test_products_of_different_files_stay_apart(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.jsonl", [{"id": "1", "text": name, "gold": {"colour": ["red"]}}])
        for name in ("one", "two")
    ]
    data = joined([read_gold(path, ["colour"], CATALOGUE) for path in paths])
    assert len({row.product for row in data.rows}) == 2
    assert data.tasks == ("colour",)


def test_near_duplicates_are_not_on_both_sides(tmp_path: Path) -> None:
    titles = [
        f"{brand} {thing} number {n // 4}" for n in range(40) for brand in "ab" for thing in ("cap", "hat")
    ]
    rows = [{"text": title, "gold": {"colour": ["red"]}} for title in titles]
    data = read_gold(write(tmp_path / "gold.jsonl", rows), ["colour"], CATALOGUE)
    parts = split(data.rows, 3)
    held = {row.text for row in parts.held_out}
    assert held
    assert not held & {row.text for row in parts.train}
    assert len(parts.train) + len(parts.held_out) == len(rows)
    assert split(data.rows, 3) == parts


def test_similar_texts_equal_products_and_equal_first_fields_are_one_group() -> None:
    long = "soft cotton shirt with a red collar and blue buttons"
    texts = [long, f"{long} new", "a cap", "query: tea\ntitle: pot", "query: tea\ntitle: cup", "a hat"]
    groups = group_near_duplicates(texts, ["p1", "p2", "p3", "p4", "p5", "p3"])
    assert groups[0] == groups[1]
    assert groups[2] == groups[5]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


def test_rows_that_all_belong_together_cannot_be_split(tmp_path: Path) -> None:
    rows = [
        {"text": "Cap, red", "gold": {"colour": ["red"]}},
        {"text": "red cap", "gold": {"colour": ["red"]}},
    ]
    data = read_gold(write(tmp_path / "gold.jsonl", rows), ["colour"], CATALOGUE)
    with pytest.raises(TrainingDataError, match="near duplicates of one text"):
        split(data.rows, 0)


def test_of_a_group_that_is_too_large_a_part_is_held_out(tmp_path: Path) -> None:
    rows = [
        {"query": query, "title": f"{query} {n}", "gold": {"grade": ["exact"]}}
        for query, count in (("tea", 60), ("mug", 50))
        for n in range(count)
    ]
    data = read_gold(write(tmp_path / "gold.jsonl", rows), ["grade"], CATALOGUE)
    parts = split(data.rows, 0)
    assert [len(part) for part in parts] == [60, 11, 39]
    assert {row.text.split()[1] for row in parts.held_out + parts.left_out} == {"mug"}
    assert [len(part) for part in split(data.rows, 0, at_most=5)] == [60, 5, 45]


def votes(path: Path, rows: Sequence[tuple[str, str, list[str | None]]]) -> Path:
    return write(
        path,
        [
            {
                "product": f"p{number}",
                "title": title,
                "category": "",
                "attribute": attribute,
                "gold": ["wrong"],
                "votes": dict(zip("abc", values, strict=True)),
            }
            for number, (title, attribute, values) in enumerate(rows)
        ],
    )


def test_confident_answers_of_the_ensemble_are_rows(tmp_path: Path) -> None:
    agreed = [(f"red cap {n}", "colour", ["red", "red", "red"]) for n in range(30)]
    split_ = [("grey cap", "colour", ["red", "grey", None]), ("a thing", "size", ["S", "S", "S"])]
    path = votes(tmp_path / "votes.jsonl", [*agreed, *split_])
    data = read_confident(path, ["colour"], CATALOGUE, min_confidence=0.9)
    assert {row.answers for row in data.rows} == {("red",)}
    assert (data.source, len(data.rows), data.left_out) == ("votes", 30, 1)
    assert data.why_left_out == {"below the confidence 0.9": 1}
    assert len(read_confident(path, [ALL], CATALOGUE, min_confidence=0.0).rows) == 32


def test_spans_are_decided_span_by_span(tmp_path: Path) -> None:
    both, one = '[["acme","brand"],["cap","thing"]]', '[["cap","thing"]]'
    path = votes(tmp_path / "votes.jsonl", [("acme cap", "parts", [both, both, one])] * 2)
    data = read_confident(path, ["parts"], CATALOGUE, min_confidence=0.5)
    assert [row.answers for row in data.rows] == [(both,), (both,)]


@pytest.mark.parametrize(
    ("attribute", "answer", "why"),
    [
        ("grade", "so so", "is no label of the catalogue"),
        ("grade", "n/a", "is no label of the catalogue"),
        ("parts", '[["cap","size"]]', "a type that the catalogue does not have"),
        ("colour", "mauve", "is no value that the attribute allows"),
    ],
)
def test_votes_that_the_catalogue_does_not_allow_are_named(
    tmp_path: Path, attribute: str, answer: str, why: str
) -> None:
    path = votes(tmp_path / "votes.jsonl", [("a cap", attribute, [answer] * 3)] * 2)
    with pytest.raises(TrainingDataError, match=f"2 rows cannot be trained on(.|\n)*row 1: .*{why}"):
        read_confident(path, [attribute], CATALOGUE, min_confidence=0.5)


def test_no_spans_are_spelled_in_one_way(tmp_path: Path) -> None:
    path = votes(tmp_path / "votes.jsonl", [("a cap", "parts", ["n/a", "[]", "n/a"])] * 2)
    data = read_confident(path, ["parts"], CATALOGUE, min_confidence=0.0)
    assert [row.answers for row in data.rows] == [("[]",), ("[]",)]


def test_votes_without_confidence_are_refused(tmp_path: Path) -> None:
    path = votes(tmp_path / "votes.jsonl", [("cap", "colour", ["red", "grey", None])])
    with pytest.raises(
        TrainingDataError, match=r"none of 1 cells of colour can be trained on: 1 (below|without)"
    ):
        read_confident(path, ["colour"], CATALOGUE, min_confidence=0.99)
    with pytest.raises(TrainingDataError, match="no cell of 'size', only of colour"):
        read_confident(path, ["size"], CATALOGUE)
