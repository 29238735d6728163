# SPDX-License-Identifier: Apache-2.0
"""Judging without a server: pairs, labels, journal, requests, estimates, refusals."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployment import write_deployment, write_jsonl

import quorum
from quorum.bulk.estimate import Sample, total
from quorum.bulk.judging.estimate import Estimate, estimate, in_words
from quorum.bulk.judging.journal import Cell, Decider, Journal, JudgeError, VoteOf, path_of
from quorum.bulk.judging.labels import expected_grade
from quorum.bulk.judging.pairs import Pair, PairsError, read_pairs
from quorum.bulk.judging.requests import requests_of
from quorum.decision.cell import Parameters, decide_one, share_out
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default
from quorum_client import Extraction, Spent, Unavailable

ASKED = Default("Would a buyer who searches for {name} want it?", ("0", "1", "2", "3"), {"bad": "0"})
CATALOGUE = Catalogue.of([Attribute("brand")], default=ASKED)
ROWS: list[dict[str, Any]] = [
    {"item": "a", "text": "red shoe", "keyphrase": "shoe", "gold": "3", "clicks": 2, "relevance": 0.5},
    {"item": "a", "text": "red shoe", "keyphrase": " red\n shoe ", "gold": "bad", "clicks": None},
    {"item": "b", "text": "pan", "keyphrase": "shoe", "gold": "", "clicks": "4"},
]
RUN = {"input": "sha256:1", "members": ["x", "y"]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows in the format of the file's ending."""
    if path.suffix == ".parquet":
        table = [{"clicks": None, "relevance": None} | row for row in rows]
        pq.write_table(pa.Table.from_pylist([row | {"clicks": _float(row["clicks"])} for row in table]), path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        if path.name.removesuffix(".gz").endswith(".csv"):
            writer = csv.DictWriter(file, [*ROWS[0]])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def _float(value: object) -> float | None:
    return None if value is None else float(str(value))


def test_a_column_that_every_row_lacks_is_named_once(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "item"} for row in ROWS]
    with pytest.raises(PairsError, match=r"every row has no 'item'") as caught:
        read_pairs(write(tmp_path / "p.jsonl", rows), CATALOGUE)
    assert "max-bad" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.csv", "p.csv.gz", "p.ndjson", "p.parquet"])
def test_all_formats_read_alike(tmp_path: Path, name: str) -> None:
    found = read_pairs(write(tmp_path / name, ROWS), CATALOGUE).good
    assert [(pair.item, pair.keyphrase, pair.gold) for pair in found] == [
        ("a", "shoe", "3"),
        ("a", "red shoe", "0"),
        ("b", "shoe", None),
    ]
    assert [pair.signals[0] for pair in found] == [2.0, None, 4.0]
    assert found[0].signals[3] == 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keyphrase": "k" * 129}, "129 bytes of UTF-8, the limit is 128"),
        ({"keyphrase": "é" * 65}, "130 bytes"),
        ({"keyphrase": "bell\a"}, "control characters"),
        ({"keyphrase": "nul\x00"}, "holds a NUL character"),
        ({"keyphrase": " \n"}, "keyphrase is empty"),
        ({"keyphrase": " \u200b\ufeff \u3164"}, "keyphrase is empty"),
        ({"item": "\u2060"}, "item is empty"),
        ({"keyphrase": "brand"}, "is an attribute of the catalogue"),
        ({"keyphrase": ["a"]}, "give a text"),
        ({"keyphrase": "\ud800"}, "surrogate"),
        ({"item": " "}, "item is empty"),
        ({"text": ""}, "text is empty"),
        ({"text": "x" * 40_000}, "the limit is 32768"),
        ({"text": "other text"}, "has another text or category than on line 1"),
        ({"category": "shoes"}, "has another text or category than on line 1"),
        ({"keyphrase": "shoe"}, "stood on line 1 already"),
        ({"gold": 7}, "gold is 7; give one of 0, 1, 2, 3"),
        ({"gold": True}, "gold is True"),
        ({"clicks": "many"}, "clicks is 'many'; give a number"),
        ({"clicks": 1e999}, "clicks is inf"),
        ({"clicks": int("9" * 400)}, "give a number"),
        ({"clicks": "9" * 400}, "give a number"),
        ({"clicks": 3, "impressions": 2}, "clicks are 3 of 2 impressions"),
        ({"position": 0}, "ranks begin at 1"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_by_line(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path / "p.jsonl", [ROWS[0], {**ROWS[1], **change}, ROWS[2]])
    with pytest.raises(PairsError, match=r"p\.jsonl:2: .*") as caught:
        read_pairs(path, CATALOGUE)
    assert reason in str(caught.value)
    assert "--max-bad 1" in str(caught.value)
    found = read_pairs(path, CATALOGUE, max_bad=1)
    assert [pair.line for pair in found.good] == [1, 3]
    assert [broken.line for broken in found.broken] == [2]


def test_lines_that_are_no_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"item": "b", \n[1]\n\xff\xfe\n{"item": "c"}\n')
    found = read_pairs(path, CATALOGUE, max_bad=4)
    assert [broken.line for broken in found.broken] == [2, 3, 4, 5]
    assert found.broken[3].reason == "has no 'text'"
    table = tmp_path / "p.csv"
    table.write_bytes(b'item,text,keyphrase\na,"two\nlines",x\nb,y,z,more\nc,\xff,z\n')
    found = read_pairs(table, CATALOGUE, max_bad=2)
    assert [pair.text for pair in found.good] == ["two\nlines"]
    assert [broken.line for broken in found.broken] == [4, 5]


def test_a_table_whose_texts_are_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", [{**ROWS[0], "text": "zzzz"}])
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"z\xff\xfez"))
    with pytest.raises(PairsError, match=r"p\.parquet:1: 'text' is not UTF-8"):
        read_pairs(path, CATALOGUE)


def test_lines_nested_a_thousand_times_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("[" * 100_000 + "\n" + json.dumps(ROWS[0]), "utf-8")
    found = read_pairs(path, CATALOGUE, max_bad=1)
    assert found.broken[0].line == 1


def test_the_last_ending_says_the_format(tmp_path: Path) -> None:
    path = tmp_path / "from.csv.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n", "utf-8")
    assert [pair.keyphrase for pair in read_pairs(path, CATALOGUE).good] == ["shoe"]
    packed = tmp_path / "from.csv.ndjson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert [pair.keyphrase for pair in read_pairs(packed, CATALOGUE).good] == ["shoe"]


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    cut = write(tmp_path / "cut.jsonl.gz", ROWS * 50)
    cut.write_bytes(cut.read_bytes()[:-20])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    sheet = tmp_path / "p.xlsx"
    sheet.write_bytes(b"PK\x03\x04")
    for path, words in (
        (cut, "is it cut off"),
        (broken, "cannot be read as Parquet"),
        (empty, "is empty"),
        (tmp_path / "missing.csv", "No such file"),
        (sheet, "is a spreadsheet or a zip archive; save it as CSV"),
    ):
        with pytest.raises(PairsError, match=words):
            read_pairs(path, CATALOGUE, max_bad=1000)


def test_a_text_of_several_columns_is_joined(tmp_path: Path) -> None:
    rows = [{"item": "a", "title": "red shoe", "description": "", "keyphrase": "x"}]
    assert read_pairs(write_jsonl(tmp_path / "p.jsonl", rows), CATALOGUE, ("title", "description")).good == [
        Pair(1, "a", "red shoe", "x")
    ]


def pairs_of(*keyphrases: str, item: str = "a") -> list[Pair]:
    return [Pair(n, item, "text", keyphrase) for n, keyphrase in enumerate(keyphrases, 1)]


@given(st.lists(st.sampled_from("aAbBcCdD"), max_size=30, unique=True), st.integers(1, 5))
def test_requests_hold_each_pair_once_and_no_name_twice(names: list[str], most: int) -> None:
    pairs = pairs_of(*names)
    requests = requests_of(pairs, most)
    assert sorted(pair.line for asked in requests for pair in asked) == [pair.line for pair in pairs]
    for asked in requests:
        assert len(asked) <= most
        assert len({pair.keyphrase.casefold() for pair in asked}) == len(asked)


def test_requests_are_of_one_item_and_of_what_is_left() -> None:
    pairs = [*pairs_of("x", "y"), Pair(3, "b", "other", "x")]
    assert requests_of(pairs, 16) == [tuple(pairs[:2]), (pairs[2],)]
    assert requests_of(pairs, 16, {1, 3}) == [(pairs[1],)]


@pytest.mark.parametrize("p", [0.0, 0.3, 0.75, 1.0])
def test_of_two_values_one_has_p_and_the_other_the_rest(p: float) -> None:
    two = Default("Is {name} right?", ("no", "yes"))
    for shares in ({}, {"yes": p, None: 1 - p}, {"yes": p, "no": (1 - p) / 2, None: (1 - p) / 2}):
        assert expected_grade(two, "yes", p, shares) == pytest.approx(p)
        assert expected_grade(two, "no", p, {}) == pytest.approx(1 - p)


def test_the_rest_goes_where_the_votes_say() -> None:
    assert expected_grade(ASKED, "3", 0.7, {}) == pytest.approx(0.7 + 0.3 / 3 * (0 + 1 / 3 + 2 / 3))
    shares = {"3": 0.7, "2": 0.2, None: 0.1}
    assert expected_grade(ASKED, "3", 0.7, shares) == pytest.approx(0.7 + 0.2 * 2 / 3 + 0.05 / 3)
    every = {"3": 0.7, "2": 0.1, "1": 0.05, "0": 0.05, None: 0.1}
    rest = 0.3 * (0.1 * 2 / 3 + 0.05 / 3) / 0.2
    assert expected_grade(ASKED, "3", 0.7, every) == pytest.approx(0.7 + rest)


@given(
    st.lists(st.sampled_from(["0", "1", "3", ""]), min_size=3, max_size=3),
    st.lists(st.floats(0, 4), min_size=3, max_size=3),
    st.none() | st.floats(-2, 2),
)
def test_shares_agree_with_the_decision_and_labels_lie_between(
    values: list[str], weights: list[float], none_bias: float | None
) -> None:
    parameters = Parameters(tuple(weights), none_bias=none_bias)
    ballots = [(value, 0 if value else 1) for value in values]
    winner, confidence = decide_one(parameters, ballots)
    shares = share_out(parameters, ballots)
    if not winner:
        assert shares == {}
        return
    assert shares[winner] == confidence
    assert none_bias is None or sum(shares.values()) == pytest.approx(1)
    label = expected_grade(ASKED, winner, confidence, shares)
    assert 0 <= label <= 1
    own = ASKED.grade(winner) or 0.0
    assert own * confidence - 1e-9 <= label <= own * confidence + 1 - confidence + 1e-9


def answer(*parts: Spent) -> Extraction:
    usage = {f"m{at}": part for at, part in enumerate(parts)}
    cost = sum(part.cost or 0.0 for part in parts)
    return Extraction("id", (), 1, 0.1, cost=cost, usage=usage)


def journal(path: Path, **of: Any) -> Journal:
    path.touch()
    return Journal(path, {**RUN, **of})


def test_a_journal_goes_on_where_a_kill_left_it(tmp_path: Path) -> None:
    path = path_of(tmp_path / "out.jsonl")
    votes = (VoteOf("3", 0, -0.5), VoteOf(None, 1))
    cells = [Cell(1, votes, "3", 0.9, 0.95, 0.0, True), Cell(2, votes, reason="NO_QUORUM")]
    with journal(path) as begun:
        begun.decide_by(Decider(2, "sha256:a"))
        begun.add(cells, answer(Spent(1, 90, 10, 0, 0.1, 0.5), Spent(1, None, None, None, 0.1, 0.25)))
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1].replace(b'"line":1', b'"line":3')[:cut])
        with journal(path) as again:
            assert again.done == {1, 2}
            assert again.decided == 1
            spent = again.spent
            assert (spent.answers, spent.calls, spent.prompt_tokens, spent.cost) == (1, 2, 90, 0.75)
            assert (spent.without_tokens, spent.without_cost) == (1, 0)
            assert [cell for cell, _ in again.cells()] == cells
            shares = (Spent(0.5, 45, 5, 0, 0.05, 0.25), Spent(0.5, None, None, None, 0.05, 0.125))
            assert [usage for _, usage in again.cells()] == [shares, shares]
            again.add([Cell(3, reason="NO_ANSWER")])
        with journal(path) as last:
            assert last.done == {1, 2, 3}
            assert last.weights == Decider(2, "sha256:a")
    # Killed before the first line was whole.
    path.write_bytes(whole[:10])
    with journal(path) as anew:
        assert anew.done == set()


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = path_of(tmp_path / "out.jsonl")
    with journal(path, input="sha256:0"):
        pass
    # One that judged nothing is in nobody's way.
    with journal(path) as begun:
        begun.decide_by(Decider(2, "sha256:a"))
        begun.decide_by(Decider(2))
        begun.add([Cell(1, reason="NO_ANSWER")])
        for other in (Decider(3), Decider(2, "sha256:b")):
            with pytest.raises(JudgeError, match="Promote that version again"):
                begun.decide_by(other)
    before = path.read_bytes()
    with pytest.raises(JudgeError, match="another input and members"):
        journal(path, input="sha256:2", members=["z"])
    assert path.read_bytes() == before
    path.write_bytes(before + b"nonsense\n")
    with pytest.raises(JudgeError, match=r"journal:4: damaged .*remove the file"):
        journal(path)
    path.write_text('{"a": 1}\n')
    with pytest.raises(JudgeError, match="no journal of `quorum judge`"):
        journal(path)


def test_the_name_of_a_journal_is_on_the_disk_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"question": "Is {name} right?", "values": ["0", "3"], "synonyms": {"bad": "0"}}
    spec = quorum.load_deployment(write_deployment(tmp_path, {"a": {}}, default=asked))
    source, out = write(tmp_path / "p.jsonl", ROWS), tmp_path / "new" / "o.jsonl"
    synced: list[str] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    with pytest.raises(Unavailable):
        quorum.judge(spec, source, quorum.JudgeOptions(out=out, url="127.0.0.1:9"))
    assert str(out.parent) in synced
    assert str(path_of(out)) in synced


def test_totals_have_an_interval_of_the_sample() -> None:
    exact = total([1.0, 3.0], of=2)
    assert (exact.low, exact.middle, exact.high) == (4.0, 4.0, 4.0)
    some = total([1.0, 2.0, 3.0], of=300, factor=0.5)
    assert some.low < some.middle == 300.0 < some.high
    one = total([1.0], of=2)
    assert (one.low, one.middle, one.high) == (None, 2.0, None)
    found = Estimate(pairs=8, requests=2, seconds=one)
    assert in_words(found) == "8 pairs in 2 requests; about 2 s by the first requests"
    assert json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("size", "t"), [(2, 12.706), (9, 2.306), (16, 2.131), (30, 2.045), (31, 2.042), (99, 2.042)]
)
def test_the_interval_is_that_of_students_t(size: int, t: float) -> None:
    sample = [1.0, 3.0] + [2.0] * (size - 2)
    found = total(sample, of=10**9)
    assert found.high is not None
    error = statistics.stdev(sample) / math.sqrt(size)
    assert found.high / 1e9 - 2 == pytest.approx(t * error, rel=1e-3)


def test_prompts_and_answers_are_estimated(tmp_path: Path) -> None:
    short = {"runtime": "openvino", "options": {"model": "m", "max_new_tokens": 8}}
    asked = {"question": "Is {name} right?", "values": ["no", "yes"]}
    deployment = quorum.load_deployment(
        write_deployment(tmp_path, {"llm": short, "old": {}}, attributes={}, default=asked)
    )
    requests = requests_of(pairs_of(*"abcdefghij"), 5)
    found = estimate(deployment, requests, Sample([0.5, 0.5]), concurrency=4)
    assert (found.pairs, found.requests, found.llms) == (10, 2, 1)
    assert found.prompt_tokens is not None
    assert 100 < found.prompt_tokens.middle < 400
    assert found.seconds is not None
    assert found.seconds.middle == pytest.approx(0.5)
    assert "its limit is 8: ask fewer keyphrases" in found.remarks[0]


def test_refusals_come_before_anything_is_asked(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", ROWS)
    asked = {"question": "Is {name} right?", "values": ["0", "3"], "synonyms": {"bad": "0"}}
    plain = quorum.load_deployment(write_deployment(tmp_path / "plain", {"a": {}}))
    deployment = quorum.load_deployment(write_deployment(tmp_path / "asked", {"a": {}}, default=asked))
    old = tmp_path / "old.jsonl"
    old.write_text("precious")
    for spec, options, words in (
        (plain, {"out": tmp_path / "o.jsonl"}, "no `default` question"),
        (deployment, {}, "name the file of judged pairs"),
        (deployment, {"out": old}, "exists already"),
        (deployment, {"out": tmp_path / "o.csv"}, "use .parquet or .jsonl"),
        (deployment, {"out": tmp_path / "o.jsonl", "votes": old}, "exists already"),
        (deployment, {"out": tmp_path / "o.jsonl", "votes": source}, "is read or written already"),
        (deployment, {"out": tmp_path / "o.jsonl", "per_request": 65}, "give 1 to 64"),
        (deployment, {"out": tmp_path / "o.jsonl", "concurrency": 0}, "--concurrency 0"),
    ):
        with pytest.raises(JudgeError, match=words):
            quorum.judge(spec, source, quorum.JudgeOptions(**options))
    assert old.read_text() == "precious"
    assert not path_of(tmp_path / "o.jsonl").exists()
