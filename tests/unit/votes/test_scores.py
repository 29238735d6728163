# SPDX-License-Identifier: Apache-2.0
"""Scores of votes in every format: the same table, arrays and hash; what is no score is named or left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quorum.votes import (
    Cell,
    VotesError,
    VotesTable,
    VotesWriter,
    build_table,
    read_rows,
    read_votes,
    write_votes,
)
from quorum.votes.read import read_coded

MEMBERS = ("a", "b", "be.ta-2")


def f32(number: float) -> float:
    return float(np.float32(number))


SCORES: list[tuple[float | None, ...]] = [
    (-0.5, None, f32(-0.1)),
    (),
    (None, None, f32(-1e-7)),
    (0.0, None, f32(-3e38)),
    (),
    (f32(math.log(0.93)), None, None),
]
CELLS = [
    Cell(
        f"p{i // 2}", "", f"größe {i}", f"x{i % 2}", ("x", None, "n/a"), ("x",) if i % 3 else (), None, scores
    )
    for i, scores in enumerate(SCORES)
]
ARRAY = np.array([row or (None,) * 3 for row in SCORES], np.float32)
COLUMNS = [".parquet", ".arrow"]
HASH_BEFORE_SCORES = "sha256:3519d2162e85f4539a206517d0a4ebce797b082c72f492a38d2efeb834321534"


@pytest.fixture(params=[".jsonl", *COLUMNS])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param in COLUMNS:
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    return tmp_path / f"votes{request.param}"


def without_scores(table: VotesTable) -> VotesTable:
    return build_table(table.members, [replace(cell, scores=()) for cell in table.cells])


def test_scores_come_back_as_they_were(path: Path) -> None:
    table = build_table(MEMBERS, CELLS)
    write_votes(table, path, row_group_rows=2)
    again = read_votes(path)
    assert again.cells == table.cells
    assert again.data_hash() == table.data_hash()
    assert again.scores.dtype == np.float32
    for scores in (table.scores, again.scores):
        np.testing.assert_array_equal(scores, ARRAY)
    assert [row.cell.scores for row in read_rows(path, identified=False)] == SCORES


@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_coded_votes_have_the_scores_of_the_table(path: Path, batch_rows: int) -> None:
    write_votes(build_table(MEMBERS, CELLS), path, row_group_rows=3)
    for members, places in ((MEMBERS, [0, 1, 2]), (("be.ta-2", "a"), [2, 0]), (("b",), [1])):
        start = 0
        for numbers, votes in read_coded(path, members, batch_rows):
            wanted = ARRAY[start : start + len(numbers), places]
            if np.isnan(wanted).all():
                assert votes.scores is None
            else:
                assert votes.scores is not None
                assert votes.scores.dtype == np.float32
                np.testing.assert_array_equal(votes.scores, wanted)
            start += len(numbers)
        assert start == len(CELLS)


def test_scores_that_only_late_rows_have_are_kept(path: Path) -> None:
    cells = [*(replace(cell, product=f"q{i}", scores=()) for i, cell in enumerate(CELLS * 3)), *CELLS]
    write_votes(build_table(MEMBERS, cells), path, row_group_rows=4)
    assert [cell.scores for cell in read_votes(path).cells][-len(SCORES) :] == SCORES


def test_a_row_with_its_members_in_another_order_keeps_each_score(path: Path) -> None:
    with VotesWriter(path) as writer:
        writer.write(CELLS[0], MEMBERS)
        writer.write(Cell("q", "", "t", "x0", ("x", "y", "z"), scores=(-1.0, -2.0, -3.0)), MEMBERS[::-1])
    assert read_votes(path).cells[1].scores == (-3.0, -2.0, -1.0)


def test_every_table_made_of_a_table_keeps_its_scores() -> None:
    table = build_table(MEMBERS, CELLS)
    np.testing.assert_array_equal(table.take([3, 0]).scores, ARRAY[[3, 0]])
    np.testing.assert_array_equal(table.of_members(["be.ta-2", "a", "b"]).scores, ARRAY[:, [2, 0, 1]])
    np.testing.assert_array_equal(table.with_gold(np.zeros(len(CELLS), np.bool_)).scores, ARRAY)
    sample = table.sample_gold(2, seed=1)
    np.testing.assert_array_equal(sample.scores, ARRAY)
    assert [cell.scores for cell in sample.cells] == SCORES
    assert CELLS[0].of_members([1]).scores == ()


def test_scores_count_in_the_hash_and_their_absence_does_not() -> None:
    table = build_table(MEMBERS, CELLS)
    bare = without_scores(table)
    # Of a table that was written before votes had scores.
    assert bare.data_hash() == HASH_BEFORE_SCORES
    assert bare.coded().scores is None
    none = build_table(MEMBERS, [replace(cell, scores=(None,) * 3) for cell in CELLS])
    assert none.data_hash() == bare.data_hash()
    moved = [replace(CELLS[0], scores=(f32(-0.1), None, -0.5)), *CELLS[1:]]
    hashes = {t.data_hash() for t in (table, bare, build_table(MEMBERS, moved))}
    assert len(hashes) == 3


def test_build_table_rounds_and_leaves_out_scores_without_a_vote() -> None:
    table = build_table(["m", "n"], [Cell("p", "", "", "a", ("x", None), scores=(-0.1, -0.2))])
    assert table.scores.tolist()[0][0] == f32(-0.1)
    assert math.isnan(table.scores[0, 1])


def test_lines_have_scores_only_where_a_cell_has(tmp_path: Path) -> None:
    write_votes(build_table(MEMBERS, CELLS), tmp_path / "v.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text("utf-8").splitlines()]
    assert ["scores" in row for row in rows] == [bool(scores) for scores in SCORES]
    assert rows[0]["scores"] == {"a": -0.5, "b": None, "be.ta-2": -0.1}
    assert {row["schema_version"] for row in rows} == {2}


def line(tmp_path: Path, scores: str, version: str = '"schema_version": 2, ') -> Path:
    votes = '"votes": {"m": "x", "n": null, "o": "y"}'
    rows = (
        f'{{{version}"product": "{p}", "title": "{p}", "attribute": "a", {votes}, "scores": {s}}}'
        for p, s in (("p", "null"), ("q", scores))
    )
    (tmp_path / "v.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return tmp_path / "v.jsonl"


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ("null", ()),
        ("{}", ()),
        ('{"m": null}', ()),
        ('{"o": -1}', (None, None, -1.0)),
        ('{"o": -1, "m": -0.1, "n": -5}', (f32(-0.1), None, -1.0)),
        ('{"n": -5}', ()),
        ('{"m": 0.001}', (0.0, None, None)),
        ('{"m": -0.0}', (0.0, None, None)),
    ],
)
def test_a_line_may_name_some_members(tmp_path: Path, scores: str, wanted: tuple[float | None, ...]) -> None:
    for version in ('"schema_version": 2, ', ""):
        found = read_votes(line(tmp_path, scores, version)).cells[1].scores
        assert str(found) == str(wanted)


NO_SCORES = [
    ('{"m": -1, "zed": -2}', r"`scores` names \['zed'\]; the members are \['m', 'n', 'o'\]"),
    ("[-1, -2, -3]", r"`scores` is \[-1, -2, -3\]; an object of member: number"),
    ("0.5", r"`scores` is 0\.5; an object"),
    ('{"m": "-1"}', r"scores\['m'\] is '-1'; a score is the natural logarithm"),
    ('{"m": true}', r"scores\['m'\] is True; a score"),
    ('{"m": 0.93}', r"scores\['m'\] is 0\.93; a score"),
    ('{"n": 0.93}', r"scores\['n'\] is 0\.93; a score"),
    ('{"m": -1e400}', r"scores\['m'\] is -inf; a score"),
    ('{"m": -1e39}', r"scores\['m'\] is -1e\+39; a score"),
    (f'{{"m": -1{"0" * 400}}}', r"scores\['m'\] is -10+; a score"),
]


@pytest.mark.parametrize(("scores", "words"), NO_SCORES)
@pytest.mark.parametrize("identified", [True, False])
def test_what_is_no_score_is_refused_by_line(
    tmp_path: Path, scores: str, words: str, identified: bool
) -> None:
    with pytest.raises(VotesError, match=rf"v\.jsonl, line 2: {words}"):
        list(read_rows(line(tmp_path, scores), identified=identified))
    rows = list(read_rows(line(tmp_path, scores, version=""), identified=identified))
    assert [row.cell.scores for row in rows] == [(), ()]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_lines_hold_no_constants(tmp_path: Path, number: str) -> None:
    for version in ('"schema_version": 2, ', ""):
        with pytest.raises(VotesError, match=rf"line 2: {number} is not a JSON value"):
            read_votes(line(tmp_path, f'{{"m": {number}}}', version))


Column = Callable[[Any], Any]


def columns(tmp_path: Path, scores: Column, version: bytes | None) -> Path:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    made = {"product": ["p", "q"], "attribute": ["a", "a"], "m": ["x", "x"], "n": ["y", None]}
    metadata = None if version is None else {b"quorum.votes.schema_version": version}
    table = pa.table(made | {"scores": scores(pa)}, metadata=metadata)
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "v.parquet")
    return tmp_path / "v.parquet"


def both(path: Path) -> list[list[tuple[float | None, ...]]]:
    """The scores of each row, by reading cells and by reading codes."""
    found = []
    for _, votes in read_coded(path, ("m", "n"), 100):
        scores = np.full(votes.codes.shape, np.nan) if votes.scores is None else votes.scores
        rows = [tuple(None if x != x else x for x in row) for row in scores.tolist()]
        found = [row if any(x is not None for x in row) else () for row in rows]
    return [[cell.scores for cell in read_votes(path).cells], found]


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        (lambda pa: pa.array([{"m": -0.1, "n": -1.0}, {"m": None, "n": -2.0}]), [(f32(-0.1), -1.0), ()]),
        (lambda pa: pa.array([None, {"n": -2.0, "m": -1.0}]), [(), (-1.0, None)]),
        (lambda pa: pa.array([{"m": math.nan}, {"m": 0.0005}]), [(), (0.0, None)]),
        (lambda pa: pa.array([{"n": -1}, {"n": 0}]), [(None, -1.0), ()]),
        (lambda pa: pa.array([{"m": None}, {"m": None}]), [(), ()]),
        (lambda pa: pa.nulls(2), [(), ()]),
    ],
)
@pytest.mark.parametrize("version", [None, b"2"])
def test_columns_of_other_writers(
    tmp_path: Path, scores: Column, wanted: list[Any], version: bytes | None
) -> None:
    assert both(columns(tmp_path, scores, version)) == [wanted, wanted]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda pa: pa.array([-0.1, -0.2]), r"column 'scores' is double; a struct of one number per member"),
        (lambda pa: pa.array(["x", None]), "column 'scores' is string; a struct"),
        (lambda pa: pa.array([{"zed": -1.0}] * 2), r"column 'scores' names \['zed'\]"),
        (lambda pa: pa.array([{"m": "x"}] * 2), "column 'scores' has string for 'm'; use float32"),
        (lambda pa: pa.array([{"m": True}] * 2), "column 'scores' has bool for 'm'"),
        (lambda pa: pa.array([{"m": -0.1}, {"m": 0.93}]), r", row 2: scores\['m'\] is 0\.93; a score is"),
        (lambda pa: pa.array([{"n": 0.0}, {"n": -math.inf}]), r", row 2: scores\['n'\] is -inf; a score"),
        (lambda pa: pa.array([{"m": -1e39}, None]), r", row 1: scores\['m'\] is -1e\+39"),
    ],
)
def test_a_column_of_no_scores_is_refused_or_in_version_1_left_out(
    tmp_path: Path, scores: Column, words: str
) -> None:
    for read in (read_votes, lambda path: list(read_coded(path, ("m", "n"), 100))):
        with pytest.raises(VotesError, match=rf"v\.parquet(:|,) ?{words}|v\.parquet{words}"):
            read(columns(tmp_path, scores, b"2"))
    if "string; a struct" in words:
        with pytest.raises(VotesError, match="holds a text like a member's vote"):
            both(columns(tmp_path, scores, None))
    else:
        first: tuple[float | None, ...] = (f32(-0.1), None) if "0\\.93" in words else ()
        first = (None, 0.0) if "-inf" in words else first
        assert both(columns(tmp_path, scores, None)) == [[first, ()]] * 2
