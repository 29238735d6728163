# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorum.bulk.listings import Listing, ListingsError, check_gold, gold_of, read_listings
from quorum.bulk.outputs import OutputError
from quorum.bulk.outputs.csv_answers import CsvSink
from quorum.bulk.outputs.jsonl_answers import JsonlSink, extraction_json
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Origin, VotesWriter, read_votes
from quorum_client import Answer, Extraction, Status, Vote

CATALOGUE = Catalogue.of([Attribute("color", values=("red", "blue"), synonyms={"crimson": "red"})])


def extraction(value: str | None = "red") -> Extraction:
    votes = (
        Vote("a", "red", Status.ANSWERED),
        Vote("b", None, Status.TIMEOUT),
        Vote("c", "n/a", Status.ANSWERED),
    )
    return Extraction("id", (Answer("color", value, 0.61239, votes),), 3, 0.01)


def scored(score: float | None) -> Extraction:
    """The same with a score for the first vote."""
    (answer,) = extraction().answers
    votes = (replace(answer.votes[0], score=score), *answer.votes[1:])
    return replace(extraction(), answers=(replace(answer, votes=votes),))


def listing(**parts: Any) -> Listing:
    return Listing(**{"product": "p", "text": 'a "red", shoe\nsize 4', "category": "shoes", **parts})


@pytest.mark.parametrize("column", ["title", "text", "input", "name"])
def test_text_columns_are_found(tmp_path: Path, column: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(f"id,{column},category\n7,a shoe,shoes\n,a hat,\n", encoding="utf-8")
    first, second = read_listings(path)
    assert (first.product, first.text, first.category) == ("7", "a shoe", "shoes")
    assert (second.product, second.text, second.category) == ("row-2", "a hat", "")


@pytest.mark.parametrize("column", ["product", "id", "product_id", "sku", "asin"])
def test_id_columns_are_found(tmp_path: Path, column: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(f"{column},title\nB-7,a shoe\n,a hat\n", encoding="utf-8")
    found = [(row.product, row.numbered) for row in read_listings(path)]
    assert found == [("B-7", False), ("row-2", True)]


def test_the_named_id_column_goes_before_all_others(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{"title": "a", "sku": "s-1", "gtin": 0}, {"title": "b", "sku": "s-2"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [row.product for row in read_listings(path)] == ["s-1", "s-2"]
    assert [row.product for row in read_listings(path, id_column="gtin")] == ["0", "row-2"]


def test_bad_rows_are_left_out_with_a_note_where_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,title,description\n1,shoe,red\n2,,\n3,a,b,c\n4,,blue\n")
    columns, notes = ["title", "description"], list[str]()
    listings = read_listings(tmp_path / "in.csv", columns, note=notes.append)
    assert [(one.product, one.text) for one in listings] == [("1", "shoe\nred"), ("4", "blue")]
    (note,) = notes
    assert re.match(r"2 of 4 rows are bad and left out: .*in\.csv: row 2: ", note)
    (tmp_path / "in.csv").write_text("id,title,description\n2,,\n")
    with pytest.raises(ListingsError, match="row 1: "):
        read_listings(tmp_path / "in.csv", columns, note=notes.append)


def test_files_of_spreadsheets_start_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes('title\r\n"größe, ""42"""\r\n'.encode("utf-8-sig"))
    assert [row.text for row in read_listings(path)] == ['größe, "42"']


def test_json_lines_may_end_in_empty_lines_and_hold_gold(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    row = {"title": "a shoe", "gold": {"color": ["Crimson", "pink"]}, "product": 5}
    path.write_text(json.dumps(row) + "\n\n  \n", encoding="utf-8")
    (found,) = read_listings(path)
    assert found.product == "5"
    assert gold_of(found, "color", CATALOGUE) == ["red", "pink"]
    assert gold_of(found, "size", CATALOGUE) == []


def test_gold_may_be_json_in_a_csv_cell(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('title,gold\na shoe,"{""color"": [""red""]}"\na hat,\n', encoding="utf-8")
    assert [row.gold for row in read_listings(path)] == [{"color": ["red"]}, {}]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"title": "a hat", "x": ' + "[" * 50_000, "nested too deeply"),
        ('{"title": "a hat", "x": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"title": "a \\ud83d hat"}', r"'.*a \\ud83d' holds a lone surrogate"),
        ('{"title": "a hat", "\\udfff": 1}', "lone surrogate"),
        ('{"title": "a hat", "gold": "{\\"color\\": [\\"\\\\ud83d\\"]}"}', "gold is .*lone surrogate"),
        (json.dumps({"title": "a hat", "gold": "[" * 50_000}), "gold is nested too deeply"),
        ("[1]", "list, expected an object"),
        ('{"title": "a', "not JSON"),
    ],
    ids=range(8),
)
def test_hostile_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"title": "a shoe"}\n' + line + "\n", "utf-8")
    with pytest.raises(ListingsError, match=rf"in\.jsonl: row 2( \(line 2\))?: .*{words}"):
        read_listings(path)


def test_unusual_lines_that_are_fine_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    title = r"\ud83e\udde6 \\u{[" + "[" * 2000
    path.write_text(f'{{"title": "{title}", "price": NaN, "size": {"9" * 4000}, "price": 1}}', "utf-8")
    (found,) = read_listings(path)
    assert found.text.startswith(r"🧦 \u{[[[")


def test_csv_out_keeps_the_columns_and_marks_failures() -> None:
    file = io.StringIO()
    sink = CsvSink(file, ["sku", "title"], ["color"])
    sink.write(listing(row={"sku": "1", "title": 'a "red", shoe'}), extraction())
    sink.write(listing(row={"sku": "2", "title": "x"}), ValueError("too late"))
    sink.write(listing(row={"sku": "3", "title": "y"}), extraction(None))
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert rows[0] == {
        "sku": "1",
        "title": 'a "red", shoe',
        "color": "red",
        "color_confidence": "0.6124",
        "color_status": "DECIDED",
        "weights_version": "3",
        **dict.fromkeys(("quorum_cost", "quorum_calls", "quorum_prompt_tokens", "quorum_answer_tokens"), ""),
        "error": "",
    }
    assert (rows[1]["sku"], rows[1]["color"], rows[1]["error"]) == ("2", "", "too late")
    assert rows[2]["color"] == ""


def test_csv_out_writes_gold_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    gold = {"size": ["größe 42", 'the "large"']}
    source.write_text(json.dumps({"sku": "1", "title": "a shoe", "gold": gold}), encoding="utf-8")
    (read,) = read_listings(source)
    with out.open("w", encoding="utf-8", newline="") as file:
        CsvSink(file, list(read.row), ["color"]).write(read, extraction())
    assert "größe 42" in out.read_text("utf-8")
    assert [row.gold for row in read_listings(out)] == [gold]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize(("escaped", "mark"), [(True, "'"), (False, "")])
def test_csv_out_holds_no_formula_unless_it_is_for_machines(start: str, escaped: bool, mark: str) -> None:
    text, file = f"{start}cmd|' /C calc'!A0", io.StringIO(newline="")
    sink = CsvSink(file, [text, "price"], ["color"], escaped=escaped)
    sink.write(listing(row={text: text, "price": -5}), extraction(text))
    sink.write(listing(row={text: "a-b"}), ValueError(text))
    header, answered, failed = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header[0] == mark + text
    assert answered[:3] == [mark + text, "-5", mark + text]
    assert (failed[0], failed[-1]) == ("a-b", mark + text)


@pytest.mark.parametrize(("escaped", "value"), [(True, "r\ufffd[2J\ufffded"), (False, "r\x1b[2J\x9bed")])
def test_csv_out_holds_no_control_characters_unless_it_is_for_machines(escaped: bool, value: str) -> None:
    file = io.StringIO()
    CsvSink(file, ["title"], ["color"], escaped=escaped).write(
        listing(row={"title": "two\nlines\t"}), extraction("r\x1b[2J\x9bed")
    )
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert (row["title"], row["color"]) == ("two\nlines\t", value)


@pytest.mark.parametrize("column", ["color", "color_confidence", "color_status", "error"])
def test_csv_out_overwrites_no_column(column: str) -> None:
    with pytest.raises(OutputError, match=f"'{column}'"):
        CsvSink(io.StringIO(), ["title", column], ["color"])


def test_json_out_is_one_object_a_line() -> None:
    file = io.StringIO()
    sink = JsonlSink(file)
    sink.write(listing(), extraction())
    sink.write(listing(text="größe 🧦"), ValueError("too late"))
    first, second = map(json.loads, file.getvalue().splitlines())
    assert first["attributes"]["color"]["votes"]["b"] == {
        "value": None,
        "status": "TIMEOUT",
        "score": None,
    }
    assert (first["attributes"]["color"]["value"], first["weights_version"]) == ("red", 3)
    assert (second["title"], second["error"]) == ("größe 🧦", "too late")


def test_votes_out_tells_abstention_from_not_given(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    with VotesWriter(path) as writer:
        sink = VotesSink(writer, CATALOGUE)
        sink.write(listing(gold={"color": ["crimson"]}), extraction())
        sink.write(listing(), ValueError("too late"))
        (cell,) = map(json.loads, path.read_text("utf-8").splitlines())
    assert cell == {
        "product": "p", "category": "shoes", "title": listing().text, "attribute": "color",
        "gold": ["red"], "votes": {"a": "red", "b": None, "c": "n/a"},
        "channel": "quorum", "weights_version": 3, "latency_ms": 10.0, "schema_version": 2,
    }  # fmt: skip
    (read,) = read_votes(path).cells
    assert read.values == ("red", None, "n/a")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_votes_out_says_when_stable_stood_in_for_the_canary(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"votes.{ending}"
    with VotesWriter(path) as writer:
        VotesSink(writer, CATALOGUE).write(listing(), replace(extraction(), fallback_from="quorum_canary"))
    (cell,) = read_votes(path).cells
    assert cell.origin == Origin("quorum", 3, 10.0, "quorum_canary")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_votes_out_keeps_scores(tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    path = tmp_path / f"votes.{ending}"
    with VotesWriter(path) as writer:
        sink = VotesSink(writer, CATALOGUE)
        sink.write(listing(), extraction())
        sink.write(listing(product="q"), scored(-0.5))
    assert [cell.scores for cell in read_votes(path).cells] == [(), (-0.5, None, None)]


@pytest.mark.parametrize(("score", "shown"), [(-0.12345678, "-0.123457"), (-1e-9, "0.0"), (None, "None")])
def test_json_out_has_scores_as_short_numbers(score: float | None, shown: str) -> None:
    votes = extraction_json(scored(score))["attributes"]["color"]["votes"]
    assert [str(vote["score"]) for vote in votes.values()] == [shown, "None", "None"]


@pytest.mark.parametrize("attributes", [["color", "color_status"], ["color_confidence", "color"], ["error"]])
def test_csv_out_has_no_two_columns_of_one_name(attributes: list[str]) -> None:
    with pytest.raises(OutputError, match=f"would be '{max(attributes, key=len)}'.*write JSONL"):
        CsvSink(io.StringIO(), ["id"], attributes)


def pairs_csv(folder: Path, lines: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(lines, "utf-8")
    return path


def test_the_text_of_fields_is_made_of_their_columns(tmp_path: Path) -> None:
    path = pairs_csv(tmp_path, "id,query,title,brand\n1,red  shoe,Nike,x\n2,,Hat,y\n")
    texts = [row.text for row in read_listings(path, fields=("query", "title"))]
    assert texts == ["query: red shoe\ntitle: Nike", "title: Hat"]
    assert read_listings(path, "brand", fields=("query", "title"))[0].text == "x", "a column that is named"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("id,query\n1,red\n", "pairs.csv: needs the columns query, title; 'title' is missing"),
        ("id,query,title\n1,,\n", "pairs.csv: row 1: TEXT: no field has text; give at least one of query"),
        ("id,query,title\n1,red\n", "pairs.csv: row 1 (line 2): 2 cells, fewer than the header's 3"),
        ("id,price\n1,2\n", "pairs.csv: needs a column"),
    ],
)  # fmt: skip
def test_columns_that_fields_lack_are_named(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(ListingsError, match=re.escape(words)):
        read_listings(pairs_csv(tmp_path, lines), fields=("query", "title"))


@pytest.mark.parametrize(
    ("gold", "words"),
    [
        ({"color": [["red", "color"]]}, "row 2: gold of 'color' has ['red', 'color'], but"),
        ({"about": [["red", "color"]]}, "it is of kind 'text'; give texts, and no pairs"),
        ({"entities": ["red"]}, "gold of 'entities' has 'red', but it is of kind 'spans'; give pairs"),
    ],
)  # fmt: skip
def test_gold_of_another_kind_is_refused_by_row(tmp_path: Path, gold: dict[str, Any], words: str) -> None:
    path = tmp_path / "in.jsonl"
    good = {"color": ["red"], "entities": [["red", "x"]], "about": ["red"], "colors": ["red", "blue"]}
    path.write_text("".join(json.dumps({"title": "red", "gold": g}) + "\n" for g in (good, gold)), "utf-8")
    spans = Attribute("entities", values=("x",), kind="spans")
    catalogue = Catalogue.of([spans, Attribute("about", kind="text"), Attribute("colors", many=True)])
    listings = read_listings(path)
    check_gold(listings[:1], catalogue)
    with pytest.raises(ListingsError, match=re.escape(words)):
        check_gold(listings, catalogue)
