# SPDX-License-Identifier: Apache-2.0
"""Files, folders, patterns, standard input and URLs."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from support.input_rows import read_part

from quorum.bulk.inputs.options import InputOptions
from quorum.bulk.inputs.records import ListingsError
from quorum.bulk.inputs.scan import check_unchanged, place_of, scan
from quorum.bulk.inputs.sources import find_files


def names_of(*names: str) -> list[str]:
    return [file.name for file in find_files(names, None)[0]]


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("id,title\n1,a\n", "utf-8")


def test_a_folder_is_its_tables_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.csv", "a/z.jsonl", "a/b/c.tsv.gz", "README.md", "_SUCCESS", ".hidden.csv", "_tmp/x.csv")
    files, notes = find_files([str(tmp_path)], None)
    assert [file.name for file in files] == [
        f"{tmp_path}/{n}" for n in ("a/b/c.tsv.gz", "a/z.jsonl", "b.csv")
    ]
    assert notes == [f"{tmp_path}: 1 files of other endings are left out, such as {tmp_path}/README.md"]
    make(tmp_path, "none/x.txt")
    with pytest.raises(ListingsError, match=r"none: has no file that ends in \.csv, "):
        find_files([f"{tmp_path}/none"], None)


def test_a_file_of_several_names_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "b.csv")
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "a.csv")
    (tmp_path / "loop").symlink_to(".")
    names = [f"{tmp_path}/{name}" for name in ("a.csv", "./a.csv", "link.csv", "hard.csv")]
    files, notes = find_files(names, None)
    assert [file.name for file in files] == [f"{tmp_path}/a.csv"]
    assert notes[0] == f"{tmp_path}/./a.csv is the same file as {tmp_path}/a.csv, and read once"
    assert len(notes) == 3
    files, notes = find_files([f"{tmp_path}/**/*.csv"], None)
    assert [file.name for file in files] == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]
    assert len(notes) == 1
    assert notes[0].startswith(
        f"{tmp_path}/hard.csv is the same file as {tmp_path}/a.csv, and read once; so "
    )
    assert scan([str(tmp_path)]).rows == 2


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name in (f"{tmp_path}/pipe.csv", "/dev/urandom"):
        with pytest.raises(ListingsError, match=f"^{name}: is a pipe or a device, and no file; .*- < {name}"):
            scan([name])


def test_patterns_stand_for_files_in_order_each_once(tmp_path: Path) -> None:
    make(tmp_path, "b.csv", "a.csv", "c/d.csv", "e[1].csv", "e1.csv")
    assert names_of(f"{tmp_path}/?.csv") == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]
    assert f"{tmp_path}/c/d.csv" in names_of(f"{tmp_path}/**/*.csv")
    assert names_of(f"{tmp_path}/e[1].csv") == [f"{tmp_path}/e[1].csv"], "a file of that very name"
    files, notes = find_files([f"{tmp_path}/a.csv", f"{tmp_path}/?.csv"], None)
    assert len(files) == 2
    assert notes == [f"{tmp_path}/a.csv is named more than once, and read once"]
    with pytest.raises(ListingsError, match="no file has such a name"):
        names_of(f"{tmp_path}/*.parquet")
    with pytest.raises(ListingsError, match="no input"):
        names_of()


@pytest.mark.parametrize("problem", ["missing", "forbidden"])
def test_files_that_cannot_be_opened_are_named(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "a.csv"
    if problem == "forbidden":
        # Root may read every file; a folder of this name may not be opened as one.
        path = path / "b.csv"
        make(tmp_path, "a.csv")
    with pytest.raises(ListingsError, match=rf"{path}: (No such file|Not a directory)"):
        scan([str(path)])


STDIN = {
    "csv": (b"id,title\n1,a\n2,b\n", "csv", ""),
    "jsonl": (b'{"id": "1", "title": "a"}\n{"id": "2", "title": "b"}\n', "jsonl", ""),
    "gz": (gzip.compress(b"id\ttitle\n1\ta\n2\tb\n"), "csv", "gz"),
}


@pytest.mark.parametrize("kind", STDIN)
def test_standard_input_is_kept_for_a_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content, format_, compression = STDIN[kind]
    urls = set()
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        found = scan(["-"], spool=tmp_path / "job")
        (source,) = found.sources
        urls.add(source.url)
    assert (source.format, source.compression, source.name) == (format_, compression, "standard input")
    assert urls == {str(file) for file in (tmp_path / "job").iterdir()}, "the same input is one file"
    check_unchanged(found)
    rows = [row for part in found.parts for row in read_part(found, part)]
    assert [(row.place, row.values) for row in rows] == [
        ("standard input: row 1", {"id": "1", "title": "a"}),
        ("standard input: row 2", {"id": "2", "title": "b"}),
    ]
    with pytest.raises(ListingsError, match="standard input cannot be read here"):
        scan(["-"])


def test_urls_are_read_by_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="pip install 'quorum[remote]'", exc_type=ImportError)
    store = fsspec.filesystem("memory")
    folder = f"/{tmp_path.name}"
    store.pipe(f"{folder}/b.csv", b"id;title\n" + b"".join(b"%d;shoe %d\n" % (n, n) for n in range(100)))
    store.pipe(f"{folder}/a.jsonl.gz", gzip.compress(b'{"id": 1, "title": "hat"}\n'))
    store.pipe(f"{folder}/c.txt", b"no table")
    store.pipe(f"{folder}/_temporary/d.csv", b"id;title\n1;a\n")
    urls = [f"memory://{folder}", [f"memory://{folder}/*.csv"], [f"memory://{folder}/b.csv"]]
    assert names_of(urls[0]) == [f"memory://{folder}/a.jsonl.gz", f"memory://{folder}/b.csv"]
    assert names_of(*urls[1]) == names_of(*urls[2]) == [f"memory://{folder}/b.csv"]
    found = scan([urls[0]], rows_per_part=30)
    check_unchanged(found)
    last = list(read_part(found, found.parts[-1]))
    assert last[-1].values == {"id": "99", "title": "shoe 99"}
    assert last[-1].place == f"memory://{folder}/b.csv: row 100" == place_of(found.sources, found.rows - 1)
    store.pipe(f"{folder}/b.csv", b"id;title\n" + b"".join(b"%d;shoe %d\n" % (n, n) for n in range(100)))
    with pytest.raises(ListingsError, match=r"b\.csv: has changed since the job began"):
        check_unchanged(found)
    with pytest.raises(
        ListingsError, match=r"memory://.*none\.csv: (No such file|FileNotFound|cannot be read)"
    ):
        scan([f"memory://{folder}/none.csv"])
    with pytest.raises(ListingsError, match=r"what://a/b\.csv: cannot be opened: "):
        scan(["what://a/b.csv"])
    (tmp_path / "x.csv").write_text("title\na\n")
    assert names_of(f"file://{tmp_path}/x.csv") == [f"{tmp_path}/x.csv"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of files, which sends each as a whole."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_files_of_web_servers_are_read_from_any_part(tmp_path: Path, served: str) -> None:
    pytest.importorskip("aiohttp", reason="pip install aiohttp", exc_type=ImportError)
    path = tmp_path / "a.csv"
    path.write_text("id;title\n" + "".join(f"{n};shoe {n}\n" for n in range(100)), "utf-8")
    found = scan([f"{served}/a.csv"], rows_per_part=30)
    check_unchanged(found)
    assert [row.index for row in read_part(found, found.parts[2])] == list(range(60, 90))
    with pytest.raises(ListingsError, match=r"none\.csv: "):
        scan([f"{served}/none.csv"])
    path.write_text("id;title\n1;a\n", "utf-8")
    with pytest.raises(ListingsError, match="has changed since the job began"):
        check_unchanged(found)


def test_without_fsspec_urls_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ListingsError, match=r"URLs need .*pip install 'quorum\[remote\]'"):
        scan(["s3://bucket/a.csv"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", 'id\ttitle\n1\t"Large" shoe\n2\ta "hat"\n', "separated by tabs, without quotes, in utf-8"),
        ("a.tsv", 'id\ttitle\n1\t"a\tb"\n', "separated by tabs, in utf-8"),
        ("a.csv", "id|title\n1|a, b\n", "separated by bars (|), in utf-8"),
        ("a.csv", "'id','title'\n'1','it''s, red'\n'2','b'\n", "separated by commas, quoted by ', in utf-8"),
        ("a.csv", 'id,title\n1,"a \\"red\\", hat"\n2,"b"\n', "separated by commas, \\ before quotes in"),
        ("a.csv", "title\na shoe, red\na hat\n", "separated by nothing (one column), in utf-8"),
        ("a.csv", 'sep=;\nid;title\n1;"a; b"\n', "separated by semicolons, in utf-8"),
        ("a.csv", "\n\nid,title\n1,a\n", "separated by commas, in utf-8"),
        ("a", "id,title\n1,a\n", "separated by commas, in utf-8"),
    ],
)  # fmt: skip
def test_what_was_detected_is_said(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    found = scan([str(path)])
    assert found.bad_rows == 0
    assert f"{path}: CSV, cells {words}" in found.notes[0]
    assert [dict(row.values) for row in read_part(found, found.parts[0])]
    assert found.columns[-1] == "title"


@pytest.mark.parametrize(
    ("content", "encoding", "note"),
    [
        ("größe".encode("latin-1"), "cp1252", "not in UTF-8; read as cp1252, or as --encoding names it"),
        (b"\x93quoted\x94 5 \x80", "cp1252", "not in UTF-8; read as cp1252"),
        (b"gr\xf6\x81", "latin-1", "not in UTF-8; read as latin-1"),
    ],
)  # fmt: skip
def test_an_encoding_that_is_guessed_is_said(
    tmp_path: Path, content: bytes, encoding: str, note: str
) -> None:
    path = tmp_path / "a.csv"
    # Far behind what is looked at first.
    path.write_bytes(b"id,title\n" + b"1,shoe\n" * 20_000 + b"2," + content + b"\n")
    found = scan([str(path)])
    assert found.sources[0].encoding == encoding
    assert any(f"{path}: {note}" in one for one in found.notes)
    (*_, last) = read_part(found, found.parts[-1])
    assert last.values["title"] == content.decode(encoding)
    strict = scan([str(path)], InputOptions(encoding="utf-8"))
    assert [row.place for row in strict.bad] == [f"{path}: row 20001 (line 20002)"]


def test_a_header_of_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("title,größe\nshoe,42\n".encode("latin-1"))
    found = scan([str(path)])
    assert found.columns == ("title", "größe")
    assert any("read as cp1252" in note for note in found.notes)
