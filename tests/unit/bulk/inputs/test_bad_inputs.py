# SPDX-License-Identifier: Apache-2.0
"""Bad rows are rows of their own and take no other one along; bad files are refused with the reason."""

from __future__ import annotations

import gzip
import io
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.input_rows import read_part

from quorum.bulk.inputs.options import InputOptions
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.inputs.scan import Scan, check_unchanged, scan
from quorum.bulk.listings import gold_flaw
from quorum.bulk.mapping import ColumnNames
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_contract import MAX_TEXT_BYTES

LONG = "x" * 5_000_000


def rows_of(found: Scan) -> list[Row | BadRow]:
    with PartReader(found) as reader:
        return [row for part in found.parts for row in reader.read(part)]


def titles(found: Scan) -> list[str]:
    """The titles of rows that make listings."""
    bad = {row.index for row in found.bad}
    return [row.values["title"] for row in rows_of(found) if isinstance(row, Row) and row.index not in bad]


# Name, content, titles of good rows, and of each bad row its place and what is wrong.
BAD_ROWS: list[tuple[str, str | bytes, list[str], list[tuple[str, str]]]] = [
    (
        "unclosed.csv",
        'id,title\n1,a shoe\n2,"a hat\n3,a cap\n4,"a ""red"" bag"\n5,a belt\n',
        ["a shoe", "a cap", 'a "red" bag', "a belt"],
        [("row 2 (line 3)", "a quote is not closed")],
    ),
    (
        "unclosed-at-the-end.csv",
        'id,title\n1,a shoe\n2,"a hat\n' + "".join(f"{n},cap {n}\n" for n in range(3, 500)),
        ["a shoe", *(f"cap {n}" for n in range(3, 500))],
        [("row 2 (line 3)", "a quote is not closed up to the end of the file")],
    ),
    (
        "unclosed-and-closed-by-chance.csv",
        'id,title,size\n1,"a shoe,3\n2,a hat,4\n3,ruler 12",9\n4,a cap,5\n',
        ["a hat", 'ruler 12"', "a cap"],
        [("row 1 (line 2)", "a quote is not closed: the cell goes on over lines that are rows")],
    ),
    (
        "unclosed-twice.csv",
        'id;title\n1;"a\n2;b\n3;"c\n4;d\n',
        ["b", "d"],
        [("row 1 (line 2)", "a quote is not closed"), ("row 3 (line 4)", "a quote is not closed")],
    ),
    (
        "quote-inside.csv",
        'id,title\n1,"Large" shoe\n2,"a hat"\n3,5" heel\n',
        ["a hat", '5" heel'],
        [("row 1 (line 2)", "a quote inside a cell in quotes is not doubled")],
    ),
    (
        "ragged.csv",
        "id,title,brand\n1,a,x\n2,b\n3,c,y,z\n4,d,,,\n\n5,e,v\n",
        ["a", "d", "e"],
        [
            ("row 2 (line 3)", "2 cells, fewer than the header's 3"),
            ("row 3 (line 4)", "4 cells, more than the header's 3; a cell with a delimiter needs quotes"),
        ],
    ),
    (
        "nul.csv",
        "id,title\n1,a\n2,b\0b\n3,c\n",
        ["a", "c"],
        [("row 2 (line 3)", "holds a NUL character")],
    ),
    (
        "long.csv",
        f"id,title,extra\n1,a,\n2,{LONG},\n3,c,{LONG}\n",
        ["a", "c"],
        [("row 2", f"TEXT: 5000000 bytes of UTF-8, the limit is {MAX_TEXT_BYTES}")],
    ),
    (
        "empty-title.csv",
        "id,title\n1,a\n2,\n3,  \n",
        ["a"],
        [("row 2", "column 'title' is empty"), ("row 3", "column 'title' is empty")],
    ),
    (
        "mostly-utf-8.csv",
        "id,title\n1,größe\n2,süß\n".encode() + "3,größe\n".encode("latin-1") + b"4,d\n",
        ["größe", "süß", "d"],
        [("row 3 (line 4)", "the byte 0xf6 is no utf-8")],
    ),
    (
        "null.jsonl",
        '{"title": "a"}\n{"title": null}\n{"id": 3}\n{"title": 4}\n\n{"title": "e"}\n',
        ["a", "e"],
        [
            ("row 2", "column 'title' is empty"),
            ("row 3", "column 'title' is empty"),
            ("row 4", "'title' is 4, expected text"),
        ],
    ),
    (
        "broken.ndjson",
        '{"title": "a"}\n{"title": "b"\n[1]\n{"title": "\\u0000"}\n{"title": "e"}',
        ["a", "e"],
        [
            ("row 2 (line 2)", "not JSON"),
            ("row 3 (line 3)", "list, expected an object"),
            ("row 4 (line 4)", "holds a NUL character"),
        ],
    ),
    (
        "gold.jsonl",
        '{"title": "a", "gold": {"color": "red"}}\n{"title": "b", "gold": {"color": ["red"]}}\n',
        ["b"],
        [("row 1", "gold of 'color' is 'red'; give a list of acceptable values")],
    ),
    (
        "category.csv",
        f"title,category\na,shoes\nb,{'s' * 300}\n",
        ["a"],
        [("row 2", "CATEGORY: 300 bytes of UTF-8, the limit is 256")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "good", "bad"), BAD_ROWS, ids=[case[0] for case in BAD_ROWS])
def test_bad_rows_end_nothing_and_take_no_other_row_along(
    tmp_path: Path, name: str, content: str | bytes, good: list[str], bad: list[tuple[str, str]]
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = scan([str(path)], rows_per_part=3, columns=ColumnNames())
    assert titles(found) == good
    assert found.rows == len(good) + len(bad) == sum(part.rows for part in found.parts)
    assert found.bad_rows == len(bad)
    assert [row.place for row in found.bad] == [f"{path}: {place}" for place, _ in bad]
    for row, (_, words) in zip(found.bad, bad, strict=True):
        assert words in row.reason
    # Read from its own start, each part has the same rows.
    assert [row for part in found.parts for row in read_part(found, part)] == rows_of(found)


def test_the_text_of_a_bad_row_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'id,title\n1,a,b "c", {LONG}\n2,"open\n', "utf-8")
    found = scan([str(path)], columns=ColumnNames())
    first, second = rows_of(found)
    assert isinstance(first, BadRow)
    assert isinstance(second, BadRow)
    assert (first.raw, second.raw) == (f'1,a,b "c", {LONG}', '2,"open')
    assert len(found.bad[0].raw) < 10_000, "a scan with many bad rows must stay small"


BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("empty.csv", "", "is empty; write it anew, or leave it out"),
    ("empty.jsonl", "", "is empty"),
    ("empty.parquet", "", "is empty"),
    ("header.csv", "id,title\n", "no rows"),
    ("blank.csv", "\n \n\n", "has no header"),
    ("blank.jsonl", "\n\n", "no rows"),
    ("twice.csv", "id,title,title\n1,a,b\n", "has the column 'title' twice; rename one"),
    ("header-open.csv", 'id,"title\n1,a\n2,b\n', "the header is no CSV"),
    ("no-title.csv", "id,price\n1,2\n", "needs a column title, text, input, name; it has: id, price. Name"),
    ("sheet.xlsx", b"PK\x03\x04\x14\x00", "is a spreadsheet or a zip archive; save it as CSV, or unpack it"),
    ("sheet.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "is a spreadsheet of an old format; save it as CSV"),
    ("array.json", '[{"title": "a"}]', "is an array of JSON; write one object per line, without commas"),
    ("page.html", "<html>", "cannot tell the format from '.html'; use .csv, .tsv, .jsonl or .parquet"),
    ("cut.csv.gz", gzip.compress(b"id,title\n" + b"1,shoe\n" * 9000)[:-9], "cannot be unpacked"),
    ("no.csv.gz", b"\x1f\x8bnot packed", "cannot be unpacked"),
    ("cut.jsonl.xz", b"\xfd7zXZ\x00\x00\x04", "cannot be unpacked"),
    ("cut.csv.bz2", b"BZh91AY&SY", "cannot be"),
    ("cut.csv.zst", b"\x28\xb5\x2f\xfd\x04", "cannot be read"),
    ("cut.parquet", b"PAR1" + b"\0" * 50, "cannot be read as Parquet"),
    ("keys.jsonl", "".join(f'{{"title": "a", "k{n}": 1}}\n' for n in range(10_001)), "has more than 10000"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ListingsError, match=rf"{re.escape(name)}: {re.escape(words)}"):
        scan([str(path)], columns=ColumnNames())


def parquet(columns: dict[str, Any]) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file.getvalue()


def test_parquet_of_another_schema_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet({"id": [1, 2], "title": ["a", "b"]}))
    (tmp_path / "b.parquet").write_bytes(parquet({"id": [3], "title": [5.5]}))
    with pytest.raises(
        ListingsError, match=r"b\.parquet: the column 'title' holds numbers, but in .*a\.par.* texts"
    ):
        scan([str(tmp_path)], columns=ColumnNames())


def test_parquet_files_may_have_other_columns_and_wider_numbers(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "a.parquet").write_bytes(parquet({"id": [1], "title": ["a"], "brand": ["x"]}))
    (tmp_path / "b.parquet").write_bytes(
        parquet({"id": pa.array([2], pa.int8()), "title": pa.array(["b"]).dictionary_encode()})
    )
    (tmp_path / "c.parquet").write_bytes(parquet({"id": [3], "title": ["c"], "brand": pa.nulls(1)}))
    found = scan([str(tmp_path)], columns=ColumnNames())
    assert found.columns == ("id", "title", "brand")
    assert titles(found) == ["a", "b", "c"]
    assert not any("brand" in note for note in found.notes), "nobody asked for it"
    (tmp_path / "d.parquet").write_bytes(parquet({"sku": [1], "title": ["a"], "category": ["x"]}))
    (note,) = (note for note in scan([str(tmp_path)], columns=ColumnNames()).notes if "category" in note)
    lacking = f"{tmp_path}/a.parquet, {tmp_path}/b.parquet, {tmp_path}/c.parquet"
    assert note == (
        f"columns that other files have are missing, and empty: id in {tmp_path}/d.parquet; "
        f"sku in {lacking}; category in {lacking}"
    )


def test_texts_of_parquet_that_are_no_text_are_bad_rows(tmp_path: Path) -> None:
    import pyarrow as pa

    texts = pa.StringArray.from_buffers(
        3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")
    )
    (tmp_path / "a.parquet").write_bytes(parquet({"id": [1, 2, 3], "title": texts}))
    found = scan([str(tmp_path / "a.parquet")], columns=ColumnNames())
    assert titles(found) == ["a", "c"]
    assert [row.place for row in found.bad] == [f"{tmp_path}/a.parquet: row 2"]
    assert "'title' is not UTF-8" in found.bad[0].reason


def test_files_lack_no_column_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sku,title\n1,a\n")
    (tmp_path / "b.csv").write_text("sku,text\n1,a\n")
    with pytest.raises(ListingsError, match=r"b\.csv: needs column 'title'; it has: sku, text"):
        scan([str(tmp_path)], columns=ColumnNames())


def test_ids_of_several_rows_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n7,a\n8,b\n7,c\n,d\n")
    (tmp_path / "b.csv").write_text("id,title\n8,a\n7,b\n")
    found = scan([str(tmp_path)], columns=ColumnNames())
    assert found.bad_rows == 0
    (note,) = (note for note in found.notes if "more than one row" in note)
    assert (
        f"2 ids belong to more than one row, such as {tmp_path}/a.csv: row 1 and {tmp_path}/a.csv: row 3"
        in note
    )
    assert f"{tmp_path}/a.csv: row 2 and {tmp_path}/b.csv: row 1" in note
    assert any(note.startswith("1 of 6 rows have no id") for note in found.notes)


def test_more_bad_rows_than_are_kept_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorum.bulk.inputs.scan.MOST_BAD", 3)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,title\n" + "1,a,b\n" * 2 + "2,b\n")
    found = scan([str(tmp_path)], columns=ColumnNames())
    assert (found.bad_rows, len(found.bad), found.rows) == (4, 3, 6)


@pytest.mark.parametrize("change", ["other", "shorter", "gone"])
def test_a_file_that_changes_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,title\n1,a\n2,b\n")
    found = scan([str(path)])
    check_unchanged(found)
    if change == "gone":
        path.unlink()
    else:
        path.write_text("id,title\n1,a\n" + "2,c\n" * (change == "other"))
    with pytest.raises(ListingsError, match=r"a\.csv: .*(has changed since the job began|put it back)"):
        check_unchanged(found)
    if change == "shorter":
        with pytest.raises(ListingsError, match=r"a\.csv: ends after row 1, but had 2 when it was scanned"):
            rows_of(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "xlsx"}, "format 'xlsx'"),
        ({"encoding": "utf-99"}, "encoding 'utf-99' is not known"),
        ({"delimiter": ";;"}, "delimiter ';;'; give one character"),
        ({"quote": "''"}, "quote \"''\"; give one character, or 'none'"),
        ({"quote": ";", "delimiter": ";"}, "quote and delimiter are both ';'"),
        ({"compression": "zip"}, "compression 'zip'"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ListingsError, match=re.escape(words)):
        InputOptions(**options)


def test_a_cell_that_goes_on_and_on_is_a_quote_that_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum.bulk.inputs.formats.csv.LONGEST_RECORD", 100)
    path = tmp_path / "a.csv"
    path.write_text('id,title\n1,"a\n' + "2,b\n" * 50 + '3,"c"\n' + f'4,"{"d" * 200}"\n', "utf-8")
    found = scan([str(path)], columns=ColumnNames())
    assert titles(found) == [*["b"] * 50, "c", "d" * 200], "one line may be longer"
    assert [row.raw for row in found.bad] == ['1,"a']
    assert "a quote is not closed: the cell goes on over" in found.bad[0].reason


def test_short_lines_after_a_quote_that_is_not_closed_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b'title\n"' + b"a\n" * 300_000))
    tracemalloc.start()
    try:
        found = scan([str(path)])
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert (found.rows, found.bad_rows, found.bad[0].raw) == (300_000, 1, '"a')
    assert "the cell goes on over 16 MiB, or 10000 lines" in found.bad[0].reason


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_more_columns_than_a_table_has_are_refused(tmp_path: Path, ending: str) -> None:
    path, columns = tmp_path / f"a.{ending}", [f"c{number}" for number in range(20_000)]
    if ending == "csv":
        path.write_text(",".join(columns) + "\n" + "1," * 19_999 + "1\n", "utf-8")
    else:
        path.write_bytes(parquet({column: ["1"] for column in columns}))
    with pytest.raises(ListingsError, match=rf"a\.{ending}: has 20000 columns, 10000 are allowed"):
        scan([str(path)])


def test_a_line_without_an_end_is_refused_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum.bulk.inputs.lines.LONGEST_LINE", 1 << 20)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id,title\n1," + b"\0" * (50 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(ListingsError, match=r"a\.csv\.gz: a line is longer than 1 MiB"):
            scan([str(path)])
        assert tracemalloc.get_traced_memory()[1] < 10 << 20, "of a file that unpacks to 50 MiB"
    finally:
        tracemalloc.stop()


def test_listings_may_be_checked_further(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(f'{{"title": "a", "gold": {{"color": {gold}}}}}\n' for gold in ('["red"]', '[["a", "b"]]'))
    )
    catalogue = Catalogue.of([Attribute("color", values=("red",))])
    found = scan([str(path)], columns=ColumnNames(), check=lambda listing: gold_flaw(listing, catalogue))
    assert [(row.place, row.reason) for row in found.bad] == [
        (
            f"{path}: row 2",
            "gold of 'color' has ['a', 'b'], but it is of kind 'value'; give values, and no pairs",
        )
    ]
