# SPDX-License-Identifier: Apache-2.0
"""What was written, in any dialect and encoding, is what is read; parts together are the whole."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.input_rows import read_part

from quorum.bulk.inputs.options import InputOptions
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.inputs.scan import Scan, scan

# Without digits: lines of a cell that look like rows are taken for rows, and ids make them look so.
ALPHABET = "ab ö“,;\t|\"'\\\n\r"
CELLS = st.text(ALPHABET, max_size=12)
EXAMPLES = 2_000 if os.environ.get("QUORUM_LONG") else 150
DELIMITERS = st.sampled_from([",", ";", "\t", "|"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trips")


def written(rows: list[list[str]], **dialect: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows(rows)
    return file.getvalue()


def rows_of(found: Scan) -> list[Row | BadRow]:
    with PartReader(found) as reader:
        return [row for part in found.parts for row in reader.read(part)]


def same_by_parts(found: Scan) -> list[Row | BadRow]:
    """All rows, read in one go; checks that each part has the same when it is read alone."""
    rows = rows_of(found)
    for part in found.parts:
        assert list(read_part(found, part)) == rows[part.first : part.first + part.rows]
    assert [row.index for row in rows] == list(range(found.rows))
    return rows


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_csv_of_any_dialect_and_encoding_is_read_as_written(folder: Path, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4), "columns")
    rows = data.draw(
        st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=12), "rows"
    )
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32-be"]), "encoding")
    delimiter, quote = data.draw(DELIMITERS, "delimiter"), data.draw(st.sampled_from("\"'"), "quote")
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]), "line end")
    # With other ends, Python's writer leaves line ends in cells without quotes.
    some = [csv.QUOTE_ALL, csv.QUOTE_MINIMAL] if end == "\r\n" else [csv.QUOTE_ALL]
    quoting = data.draw(st.sampled_from(some), "quoting")
    columns = [f"c{number}" for number in range(width)]
    text = written(
        [columns, *rows], delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=end
    )
    path = folder / "a.csv"
    path.write_bytes(text.encode(encoding))
    options = InputOptions(encoding=encoding, delimiter=delimiter, quote=quote)
    found = scan([str(path)], options, rows_per_part=data.draw(st.integers(1, 5), "rows of a part"))
    read = same_by_parts(found)
    assert [row.values for row in read if isinstance(row, Row)] == [
        dict(zip(columns, row, strict=True)) for row in rows
    ]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_dialect_and_encoding_are_detected(folder: Path, data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["shoe", "größe", "red, blue", 'a "hat"', "two\nlines", "“cap”", ""]))
    titles = data.draw(st.lists(words.map(" ".join), min_size=1, max_size=12), "titles")
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"]), "encoding")
    delimiter = data.draw(DELIMITERS, "delimiter")
    end = data.draw(st.sampled_from(["\n", "\r\n"]), "line end")
    rows = [["sku", "title", "price"], *([f"s-{n}", title, "1,5"] for n, title in enumerate(titles))]
    path = folder / "a.csv"
    path.write_bytes(written(rows, delimiter=delimiter, lineterminator=end).encode(encoding))
    (source,) = (found := scan([str(path)], rows_per_part=3)).sources
    assert source.dialect is not None
    assert (source.dialect.delimiter, source.dialect.quote) == (delimiter, '"')
    assert [row.values["title"] for row in same_by_parts(found) if isinstance(row, Row)] == titles


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    text=st.text('ab01,"\n\r\0ö', max_size=60),
    size=st.integers(1, 3),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
)
@example("\x000\x00", 1, "utf-8")
def test_nothing_of_a_broken_file_is_lost(folder: Path, text: str, size: int, encoding: str) -> None:
    path = folder / "broken.csv"
    path.write_bytes(f"id,title\n{text}".encode(encoding))
    options = InputOptions(delimiter=",")
    if not text.strip("\r\n"):
        with pytest.raises(ListingsError, match="no rows"):
            scan([str(path)], options)
        return
    rows = same_by_parts(scan([str(path)], options, rows_per_part=size))
    kept = "".join(row.raw if isinstance(row, BadRow) else "".join(row.values.values()) for row in rows)
    # Quotes, delimiters and line ends are no content; all else is there once and in order.
    content = str.maketrans(dict.fromkeys('",\r\n'))
    assert kept.translate(content) == text.translate(content)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    rows=st.lists(st.dictionaries(CELLS, st.none() | st.integers() | CELLS | st.lists(CELLS), max_size=3)),
    size=st.integers(1, 4),
    mark=st.booleans(),
    blank=st.sampled_from(["", "\n", " \n"]),
)
def test_json_lines_are_read_as_written(
    folder: Path, rows: list[dict[str, Any]], size: int, mark: bool, blank: str
) -> None:
    path = folder / "a.jsonl"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" + blank for row in [{"title": "a"}, *rows])
    path.write_text(lines, "utf-8-sig" if mark else "utf-8")
    found = scan([str(path)], rows_per_part=size)
    assert [row.values for row in same_by_parts(found) if isinstance(row, Row)] == [{"title": "a"}, *rows]
    assert set(found.columns) == {"title"}.union(*rows)


@pytest.mark.parametrize("group", [1, 3, 5000])
def test_parquet_is_read_as_written(tmp_path: Path, group: int) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    import pyarrow.parquet as pq

    rows = [{"title": f"t{n}", "tags": ["a"] * (n % 3), "price": n / 2 or None} for n in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=group)
    found = scan([str(tmp_path / "a.parquet")], rows_per_part=4)
    assert [row.values for row in same_by_parts(found) if isinstance(row, Row)] == rows
    groups = [part.offset for part in found.parts]
    assert groups == [part.first // group for part in found.parts]


def zst(data: bytes) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    return bytes(pa.compress(data, "zstd", asbytes=True))


@pytest.mark.parametrize(
    ("ending", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zst)]
)
@pytest.mark.parametrize("named", [True, False])
def test_packed_files_are_read(
    tmp_path: Path, ending: str, packed: Callable[[bytes], bytes], named: bool
) -> None:
    rows = [{"id": str(n), "title": f"größe {n}"} for n in range(500)]
    text = written([["id", "title"], *(list(row.values()) for row in rows)], delimiter=";")
    path = tmp_path / (f"a.csv.{ending}" if named else "a.csv")
    # Two packed pieces in one file are one file.
    middle = text.index("größe 250")
    path.write_bytes(packed(text[:middle].encode()) + packed(text[middle:].encode()))
    found = scan([str(path)], rows_per_part=60)
    assert [row.values for row in same_by_parts(found) if isinstance(row, Row)] == rows
    assert found.sources[0].compression == ending
    assert (
        f"{path}: CSV, cells separated by semicolons, in utf-8, packed as {ending}; 500 rows" in found.notes
    )


def test_a_reader_of_a_packed_file_unpacks_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"title\n" + b"shoe\n" * 100))
    found = scan([str(path)], rows_per_part=10)
    opened: list[object] = []
    true = gzip.GzipFile

    def counted(*args: Any, **more: Any) -> gzip.GzipFile:
        opened.append(args)
        return true(*args, **more)

    monkeypatch.setattr(gzip, "GzipFile", counted)
    with PartReader(found) as reader:
        for number in (0, 1, 4, 9):
            assert len(list(reader.read(found.parts[number]))) == 10
        assert len(opened) == 1
        # Going back, and on after a part that was not read to its end, is right too.
        next(iter(reader.read(found.parts[2])))
        assert [row.index for row in reader.read(found.parts[3])] == list(range(30, 40))
        assert len(opened) == 2


def test_a_scan_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;title\n1;a\n2\n", "utf-8")
    found = scan([str(path)])
    assert Scan.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(ListingsError, match="the record of a scan cannot be read"):
        Scan.from_json({"rows": 1})


def test_the_same_inputs_give_the_same_scan(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text("id,title\n1,a\n1,b\n", "utf-8")
    assert scan([str(tmp_path)]) == scan([str(tmp_path)])
