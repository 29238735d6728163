# SPDX-License-Identifier: Apache-2.0
"""What answers took, in votes tables of every format; tables without it read as before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import quorum
from quorum.votes import Cell, VotesError, build_table, read_rows, read_votes, write_votes
from quorum.votes.schema import Usage
from quorum_contract import Spent

MEMBERS = ("a", "b", "be.ta-2")
USAGE: list[Usage] = [
    (Spent(0.5, 150.5, 6.25, 0, 0.125, 0.0025), None, Spent(0, 0, 0, 0, 0.0, 0.0)),
    (),
    (None, Spent(1, None, None, None, 0.5), None),
]
CELLS = [
    Cell(f"p{i}", "", f"text {i}", "x", ("x", None, "n/a"), ("x",), usage=usage)
    for i, usage in enumerate(USAGE)
]
COLUMNS = [".parquet", ".arrow"]


@pytest.fixture(params=[".jsonl", *COLUMNS])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param in COLUMNS:
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    return tmp_path / f"votes{request.param}"


def test_usage_comes_back_as_it_was(path: Path) -> None:
    table = build_table(MEMBERS, CELLS)
    write_votes(table, path, row_group_rows=2)
    again = read_votes(path)
    assert again.cells == table.cells
    assert again.data_hash() == build_table(MEMBERS, [replace(c, usage=()) for c in CELLS]).data_hash()
    assert again.statistic().members == MEMBERS
    assert [row.cell.usage for row in read_rows(path, identified=False)] == USAGE


def test_a_line_holds_the_figures_that_are_known(tmp_path: Path) -> None:
    write_votes(build_table(MEMBERS, CELLS), tmp_path / "v.jsonl")
    first, second, third = map(json.loads, (tmp_path / "v.jsonl").read_text("utf-8").splitlines())
    assert first["usage"]["a"]["prompt_tokens"] == 150.5
    assert "usage" not in second
    assert third["usage"] == {"a": None, "b": {"calls": 1.0, "seconds": 0.5}, "be.ta-2": None}
    assert third["schema_version"] == 2, "an older reader leaves usage out"


def test_members_keep_their_usage_when_others_go(path: Path, tmp_path: Path) -> None:
    write_votes(build_table(MEMBERS, CELLS), path)
    out = path.with_name(f"fewer{path.suffix}")
    quorum.drop_members(path, ["b"], out)
    assert [cell.usage for cell in read_votes(out).cells] == [(USAGE[0][0], USAGE[0][2]), (), ()]
    quorum.rename_members(out, {"a": "c"}, path)
    assert read_votes(path).members == ("c", "be.ta-2")
    assert read_votes(path).cells[0].usage == (USAGE[0][0], USAGE[0][2])


def test_merged_tables_have_the_usage_of_both(path: Path) -> None:
    one, other, out = (path.with_name(f"{name}{path.suffix}") for name in ("one", "other", "out"))
    spent = Spent(1, 10, 1, 0, 0.5, 0.25)
    cell = Cell("p", "", "t", "x", ("v",), usage=(spent,))
    write_votes(build_table(["a"], [cell]), one)
    write_votes(build_table(["b"], [replace(cell, usage=(spent.share(2),))]), other)
    quorum.merge_votes([one, other], out)
    assert read_votes(out).cells[0].usage == (spent, spent.share(2))
    write_votes(build_table(["b"], [replace(cell, usage=())]), other)
    quorum.merge_votes([one, other], out)
    assert read_votes(out).cells[0].usage == (spent, None)


def line(**more: Any) -> str:
    return json.dumps({"product": "p", "title": "t", "attribute": "x", "votes": {"a": "v"}, **more}) + "\n"


@pytest.mark.parametrize(
    "usage",
    [3, [], {"a": 3}, {"a": {"calls": "1"}}, {"a": {"calls": -1}}, {"a": {"calls": True}}],
)
def test_what_is_no_usage_is_refused_or_left_out(tmp_path: Path, usage: Any) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(line(usage=usage, schema_version=2), "utf-8")
    with pytest.raises(VotesError, match="line 1: `usage` is"):
        read_votes(path)
    path.write_text(line(usage=usage), "utf-8")
    assert read_votes(path).cells[0].usage == (), "version 1 had no such field"


def test_a_column_of_texts_of_that_name_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"product": ["p"], "attribute": ["x"], "usage": ["v"]}), tmp_path / "v.parquet")
    with pytest.raises(VotesError, match="'usage' is string"):
        read_votes(tmp_path / "v.parquet")
