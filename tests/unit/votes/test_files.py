# SPDX-License-Identifier: Apache-2.0
"""Votes tables in every format: the same table, hash and origin; versions; writers that are interrupted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.parts import find_part
from quorum.decision.weights import Weights
from quorum.evaluation.score import apply
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
from quorum.votes.read import read_coded

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


def cut_arrow(path: Path) -> Path:
    """Damage the offsets of a column: the file opens, and following them would leave its buffers."""
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    write_votes(build_table(MEMBERS, CELLS), path)
    with pa.memory_map(str(path)) as source:
        offsets = pa.ipc.open_file(source).get_batch(0).column("product").buffers()[1].to_pybytes()
    content = path.read_bytes()
    assert content.count(offsets[:20]) >= 1
    path.write_bytes(content.replace(offsets[:20], offsets[:4] + b"\xff\xff\xff\x7f" * 4, 1))
    return path


def test_an_arrow_file_with_damaged_offsets_is_refused(tmp_path: Path) -> None:
    path = cut_arrow(tmp_path / "votes.arrow")
    for read in (read_votes, read_statistic):
        with pytest.raises(
            VotesError, match=r"votes\.arrow: cannot be read to its end .*; write the file ag"
        ):
            read(path)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_texts_that_are_no_utf_8_are_refused(tmp_path: Path, ending: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    path = tmp_path / f"votes.{ending}"
    title = pa.array([b"gr\xf6\xdfe"]).view(pa.string())
    table = pa.table({"product": ["p"], "attribute": ["a"], "title": title, "m": title})
    if ending == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    for read in (read_votes, read_statistic):
        with pytest.raises(VotesError, match=r"cannot be read to its end .*UTF8"):
            read(path)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("channel", "red", True),
        ("fallback_from", "n/a", True),
        ("weights_version", "red", True),
        ("latency_ms", "41", True),
        ("scores", "red", True),
        ("channel", "quorum_canary", False),
        ("channel", None, False),
        ("scores", 0.5, False),
    ],
)
def test_votes_under_a_reserved_name_are_refused(
    tmp_path: Path, name: str, value: object, refused: bool
) -> None:
    """A file without a version may come from a deployment with a member of that name."""
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    path = tmp_path / "v.parquet"
    columns = {"product": ["p", "q"], "attribute": ["a", "a"], "m": ["x", "y"], name: [None, value]}
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    for read in (read_votes, read_statistic):
        if refused:
            with pytest.raises(
                VotesError, match=rf"v\.parquet, row 2: column '{name}' holds .* another name"
            ):
                read(path)
        else:
            assert read(path).members == ("m",)


@pytest.mark.parametrize("name", ["channel", "scores", "gold", "title"])
def test_lines_keep_a_member_of_any_name_and_columns_refuse_it(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    table = build_table([name, "m"], [Cell("p", "", "t", "a", ("x", "y"))])
    write_votes(table, tmp_path / "v.jsonl")
    again = read_votes(tmp_path / "v.jsonl")
    assert (again.members, again.cells) == (table.members, table.cells)
    assert read_statistic(tmp_path / "v.jsonl").members == table.members
    words = rf"w\.parquet: \['{name}'\] are columns with another meaning; give these members other names"
    with pytest.raises(VotesError, match=words):
        write_votes(table, tmp_path / "w.parquet")
    with VotesWriter(tmp_path / "w.parquet") as writer, pytest.raises(VotesError, match=words):
        writer.write(table.cells[0], table.members)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    path = tmp_path / "v.parquet"
    for twice in ("product", "m"):
        names = ["product", "attribute", twice, "m"]
        table = pa.Table.from_arrays([pa.array(["p"])] * 4, names)
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
        for read in (read_votes, read_statistic, lambda path: read_statistic(path, members=["m"])):
            with pytest.raises(VotesError, match=rf"columns \['{twice}'\] stand twice"):
                read(path)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_lone_surrogate_in_columns_is_refused(tmp_path: Path, suffix: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    half = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xed\xa0\xbd")]
    )
    one = pa.array(["p"])
    table = pa.Table.from_arrays([one, one, half], ["product", "attribute", "m"])
    path = tmp_path / f"v.{suffix}"
    if suffix == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    for read in (read_votes, read_statistic, lambda path: list(read_rows(path))):
        with pytest.raises(VotesError, match=rf"v\.{suffix}: cannot be read to its end .*UTF8"):
            read(path)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_parts_are_the_same_in_tables_files_and_serving(tmp_path: Path, suffix: str) -> None:
    votes = [
        ("cafe\u0301 noir", "caf\u00e9", "cafe"),
        ("shoes", "s", "red"),
        ("size S", "s", "m"),
        ("15 cm", "5", "15"),
        ("n/a", "a", None),
    ]
    cells = [Cell(f"p{i}", "", "", "a", row, ("gold",)) for i, row in enumerate(votes)]
    path = tmp_path / f"v.{suffix}"
    write_votes(build_table("klm", cells), path)
    table = read_votes(path)
    ((_, coded),) = read_coded(path, ("k", "l", "m"), 100)
    parameters = Parameters((1.0, 1.0, 1.0), part_bias=9.0)
    decided = apply(table, Weights("loglinear", tuple("klm"), parameters)).winner
    parts = [find_part([None if value == "n/a" else value for value in row]) for row in votes]
    for i, (row, found) in enumerate(zip(votes, parts, strict=True)):
        assert table.parts[i] == (table.codes[i, found] if found >= 0 else -1)
        assert coded.parts[i] == (coded.codes[i, found] if found >= 0 else -1)
        winner, _ = decide_one(parameters, [(value or "", int(value is None)) for value in row])
        assert row[decided[i]] == winner
    assert [row[part] if part != -1 else None for row, part in zip(votes, parts, strict=True)] == [
        "caf\u00e9", None, "s", "15", None
    ]  # fmt: skip


ROW = '{"product": "p", "attribute": "a", "schema_version": 2, "votes": {"m": "x"}%s}'
PLAIN = ROW % ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ROW.replace('"x"', '"x", "m": "y"') % "", "'m' stands twice in one object; keep one"),
        (ROW % ', "product": "q"', "'product' stands twice in one object"),
        (ROW % (', "more": ' + "[" * 50_000), "nested too deeply"),
        (ROW % (', "more": ' + '{"a":' * 50_000), "nested too deeply"),
        (ROW.replace('"x"', "[" * 900 + "]" * 900) % "", r"votes\['m'\] is|nested too deeply"),
        (ROW % (', "price": ' + "9" * 5000), "5000 digits"),
        (ROW % (', "weights_version": ' + "9" * 400), "`weights_version` is 9+; a whole number or null"),
        (
            ROW % ', "weights_version": 9223372036854775808',
            "`weights_version` is 9223372036854775808; a whole",
        ),
        (ROW % ', "latency_ms": 1e400', "`latency_ms` is inf; a number or null"),
        (ROW % (', "latency_ms": ' + "9" * 400), "`latency_ms` is 9+; a number or null"),
        (ROW % (', "schema_version": ' + "9" * 400), "'schema_version' stands twice"),
        (ROW.replace('"m"', r'"m\ud800"') % "", "lone surrogate"),
        (ROW.replace('"x"', r'"red \ud83d shoe"') % "", r"'.*red \\ud83d' holds a lone surrogate"),
        (ROW % r', "channel": "\udfff"', "lone surrogate"),
    ],
    ids=range(14),
)
@pytest.mark.parametrize("read", [read_votes, read_statistic, lambda path: list(read_rows(path))])
def test_hostile_rows_are_refused_by_line(tmp_path: Path, read, line: str, words: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(f"{PLAIN}\n\n{line}\n", "utf-8")
    with pytest.raises(VotesError, match=rf"v\.jsonl, line 3: .*{words}"):
        read(path)


def test_what_is_json_is_not_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(ROW % ', "product": "q"', "utf-8")
    with pytest.raises(VotesError, match=r"line 1: 'product' stands twice"):
        read_votes(path)


def test_lines_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text(PLAIN, "utf-8-sig")
    assert read_votes(tmp_path / "v.jsonl").members == ("m",)


def test_unusual_rows_that_are_fine_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    title = r"[{\u007b\"\ud83e\udde6 " + "[" * 2000
    more = f', "title": "{title}", "weights_version": 9223372036854775807, "x": {"9" * 4000}'
    path.write_text(ROW % more, "utf-8")
    (cell,) = read_votes(path).cells
    assert cell.title.startswith('[{{"🧦 [[')
    assert cell.origin == Origin(weights_version=2**63 - 1)
