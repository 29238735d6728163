# SPDX-License-Identifier: Apache-2.0
"""Votes tables in every format: the same table, hash and origin; versions; writers that are interrupted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from quorum.votes import (
    Cell,
    Origin,
    VotesError,
    VotesWriter,
    build_table,
    read_rows,
    read_statistic,
    read_votes,
    write_votes,
)

MEMBERS = ("a", "b", "c")
ORIGINS = (None, Origin("quorum", 3, 10.5, None), Origin("quorum", 4, None, "quorum_canary"))
GOLD = [(), ("x", "y"), ("n/a",), (), ("x",), (), ("y",), ()]
VOTES = ("x", None, "n/a")
CELLS = [
    Cell(f"p{i // 2}", "shoes" if i % 3 else "", f"größe {i}", f"x{i % 2}", VOTES, gold, ORIGINS[i % 3])
    for i, gold in enumerate(GOLD)
]
LINES = [".jsonl", ".ndjson", ""]
COLUMNS = [".parquet", ".arrow", ".feather"]


@pytest.fixture(params=[*LINES, *COLUMNS])
def path(request, tmp_path):
    if request.param in COLUMNS:
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    return tmp_path / f"votes{request.param}"


def test_a_table_comes_back_whole(path):
    table = build_table(MEMBERS, CELLS)
    write_votes(table, path)
    again = read_votes(path)
    assert (again.members, again.cells) == (table.members, table.cells)
    assert again.data_hash() == table.data_hash()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_the_statistic_is_that_of_the_table(path, batch_rows):
    table = build_table(MEMBERS, CELLS)
    write_votes(table, path)
    found, wanted = read_statistic(path, batch_rows=batch_rows), table.statistic()
    assert (found.members, found.groups, found.products) == (wanted.members, wanted.groups, wanted.products)
    for left, right in ((found.hist, wanted.hist), (found.gold, wanted.gold)):
        for name in ("codes", "groups", "right", "counts"):
            assert np.array_equal(getattr(left, name), getattr(right, name)), name
    part = read_statistic(path, members=["c", "a"], batch_rows=batch_rows)
    assert part.hist.codes.tolist() == [[0, 1]] * len(part.hist.counts)
    with pytest.raises(VotesError, match="missing"):
        read_statistic(path, members=["a", "zed"])


def test_a_cell_that_stands_twice_is_named_in_any_format(path):
    with VotesWriter(path) as writer:
        for cell in [*CELLS, CELLS[2]]:
            writer.write(cell, MEMBERS)
    for read in (read_votes, read_statistic):
        with pytest.raises(
            VotesError, match=r"(line|row) 9: product 'p1', attribute 'x0' stood .*(line|row) 3 a"
        ):
            read(path)


def test_what_was_written_can_be_read_after_an_interruption(path):
    with pytest.raises(KeyboardInterrupt), VotesWriter(path) as writer:
        for cell in CELLS[:5]:
            writer.write(cell, MEMBERS)
        raise KeyboardInterrupt
    assert read_votes(path).cells == tuple(CELLS[:5])


def test_lines_are_on_disk_as_they_are_written(tmp_path):
    with VotesWriter(tmp_path / "votes.jsonl") as writer:
        for number, cell in enumerate(CELLS, start=1):
            writer.write(cell, MEMBERS)
            assert len(read_votes(tmp_path / "votes.jsonl")) == number


def test_a_table_without_rows_is_refused_as_such(path):
    with VotesWriter(path):
        pass
    with pytest.raises(VotesError, match=r"no votes|1 to 18 distinct columns"):
        read_votes(path)


def test_other_members_and_other_endings_are_refused(tmp_path):
    with VotesWriter(tmp_path / "votes.jsonl") as writer:
        writer.write(CELLS[0], MEMBERS)
        with pytest.raises(VotesError, match="votes of a, b, d after votes of a, b, c"):
            writer.write(CELLS[1], ("a", "b", "d"))
    with pytest.raises(VotesError, match=r"'\.csv'; JSON lines end in \.jsonl"):
        VotesWriter(tmp_path / "votes.csv")
    assert not (tmp_path / "votes.csv").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    target = tmp_path / "votes.parquet"
    target.write_text("old")
    with pytest.raises(VotesError, match=r"\['scores'\] are columns with another meaning"):
        write_votes(build_table(["scores"], [Cell("p", "", "", "a", ("x",))]), target)
    with pytest.raises(UnicodeEncodeError):
        write_votes(build_table(["m"], [Cell("\ud800", "", "", "a", ("x",))]), target)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("votes.parquet", "old")]


def lines(tmp_path, **more):
    row = {"product": "p", "title": "t", "attribute": "a", "votes": {"m": "x"}, **more}
    (tmp_path / "v.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return tmp_path / "v.jsonl"


def test_versions_of_lines(tmp_path):
    assert read_votes(lines(tmp_path, channel=5, latency_ms="fast", weights_version=2)).cells[
        0
    ].origin == Origin(weights_version=2)
    with pytest.raises(VotesError, match="line 1: `latency_ms` is 'fast'; a number or null"):
        read_votes(lines(tmp_path, schema_version=2, latency_ms="fast"))
    with pytest.raises(VotesError, match="line 1: `schema_version` is 3, this quorum reads up to 2; upgrade"):
        read_votes(lines(tmp_path, schema_version=3))
    with pytest.raises(VotesError, match="`schema_version` is 'two'"):
        read_votes(lines(tmp_path, schema_version="two"))


def test_versions_of_columns(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    columns = {"product": ["p"], "attribute": ["a"], "m": ["x"], "weights_version": [2.0], "channel": [5]}

    def write(version):
        metadata = None if version is None else {"quorum.votes.schema_version": version}
        parquet.write_table(pa.table(columns, metadata=metadata), path)

    write(None)
    table = read_votes(path)
    assert (table.members, table.cells[0].origin) == (("m",), Origin(weights_version=2))
    write("2")
    with pytest.raises(VotesError, match=r"v\.parquet, row 1: `channel` is 5; a text or null"):
        read_votes(path)
    write("3")
    for read in (read_votes, read_statistic):
        with pytest.raises(VotesError, match=r"v\.parquet: `schema_version` is 3, this quorum reads up to 2"):
            read(path)


def test_a_lone_surrogate_is_refused_with_its_line(tmp_path):
    with pytest.raises(VotesError, match=r"line 1: .* lone surrogate"):
        read_votes(lines(tmp_path, title="\ud83d"))


def test_rows_by_text_need_no_product(path):
    nameless = [Cell("", c.category, c.title, c.attribute, c.values) for c in CELLS]
    with VotesWriter(path) as writer:
        for cell in nameless:
            writer.write(cell, MEMBERS)
    assert [row.cell for row in read_rows(path, identified=False)] == nameless
    with pytest.raises(VotesError, match="product"):
        list(read_rows(path))


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "quorum.votes.columns", raising=False)
    monkeypatch.delattr("quorum.votes.columns", raising=False)
    for call in (read_votes, read_statistic, VotesWriter):
        with pytest.raises(VotesError, match=r"v\.parquet: .* pip install 'quorum\[arrow\]'"):
            call(tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()


def test_a_row_with_its_members_in_another_order_is_written_in_the_first(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    with VotesWriter(path) as writer:
        writer.write(Cell("p", "", "t", "color", ("red", "blue")), ("a", "b"))
        writer.write(Cell("q", "", "t", "color", ("green", "grey")), ("b", "a"))
    assert [cell.values for cell in read_votes(path).cells] == [("red", "blue"), ("grey", "green")]
