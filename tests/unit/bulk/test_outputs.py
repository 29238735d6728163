# SPDX-License-Identifier: Apache-2.0
"""Outputs of a bulk job: formats, folders, object stores."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.bulk_jobs import CATALOGUE, Job, answer, listing
from support.dying import Died, died_before

from quorum.bulk.ledger import StorageFailed
from quorum.bulk.outputs import OutputError, Outputs, Target, dead_letters_of, target_of
from quorum.bulk.outputs.destinations import destination_of
from quorum.bulk.outputs.outcome import Outcome
from quorum.bulk.outputs.writer import Layout, format_of
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import read_votes
from quorum_client.errors import DeadlineExceeded

LAYOUT = Layout(("sku", "title"), ("color", "size"), CATALOGUE)


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def stored(store: MemoryFileSystem) -> dict[str, bytes]:
    return {name: bytes(file.getvalue()) for name, file in store.store.items()}


def test_parquet_has_columns_with_types(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", out="answers.parquet", failing=frozenset({4}))
    job.run()
    table = pq.read_table(job.folder / "answers.parquet")
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)} == {
        "sku": "string",
        "title": "string",
        "color": "string",
        "color_confidence": "double",
        "color_status": "string",
        "size": "string",
        "size_confidence": "double",
        "size_status": "string",
        "weights_version": "int64",
        "quorum_cost": "double",
        "quorum_calls": "int64",
        "quorum_prompt_tokens": "int64",
        "quorum_answer_tokens": "int64",
        "error": "string",
    }
    first, second, *_, failed = table.to_pylist()
    assert first == {
        "sku": "s-0",
        "title": "=cmd()",
        "color": "red",
        "color_confidence": 0.5,
        "color_status": "DECIDED",
        "size": None,
        "size_confidence": 0.0,
        "size_status": "NO_ANSWER",
        "weights_version": 3,
        "quorum_cost": 0.001,
        "quorum_calls": 2,
        "quorum_prompt_tokens": None,
        "quorum_answer_tokens": None,
        "error": None,
    }
    assert (second["size"], second["quorum_cost"], second["color_confidence"]) == ("4", None, 0.501)
    assert {name: value for name, value in failed.items() if value is not None} == {
        "sku": "s-4",
        "title": 'a "red" shoe,\nsize 4',
        "error": "too late",
    }


def test_csv_says_the_weights_and_holds_no_formula(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", failing=frozenset({4}))
    job.run()
    with (job.folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["weights_version"] for row in rows] == ["3"] * 4 + [""]
    assert [row["title"] for row in rows[:3]] == ["'=cmd()", 'a "red" shoe,\nsize 4', "größe 42"]
    assert (rows[0]["quorum_cost"], rows[4]["error"]) == ("0.001", "too late")


def test_jsonl_says_the_weights_of_every_answer(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", out="answers.jsonl", failing=frozenset({4}))
    job.run()
    rows = [json.loads(line) for line in (job.folder / "answers.jsonl").read_text("utf-8").splitlines()]
    assert [row.get("weights_version", row.get("error")) for row in rows] == [3, 3, 3, 3, "too late"]
    assert [row["product"] for row in rows] == [f"s-{row}" for row in range(5)]


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl", "answers.parquet"])
def test_joined_parts_are_what_one_part_would_be(tmp_path: Path, name: str) -> None:
    form = format_of(target_of("answers", name), LAYOUT, escaped=True)
    outcomes = [Outcome(listing(row), answer(row)) for row in range(7)]
    parts = [tmp_path / f"{n}{name}" for n in range(4)]
    # A part may have bad rows alone.
    for part, (start, end) in zip(parts, ((0, 3), (3, 3), (3, 6), (6, 7)), strict=True):
        assert form.write(part, outcomes[start:end], [])
    joined, whole, none = (tmp_path / f"{what}-{name}" for what in ("joined", "whole", "none"))
    form.join(parts, joined)
    form.write(whole, outcomes, [])
    form.join([], none)
    assert joined.read_bytes() == whole.read_bytes()
    form.write(parts[0], [], [])
    assert none.read_bytes() == parts[0].read_bytes()


def test_a_part_or_two_of_columns_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorum.votes.join.GROUP_ROWS", 4)
    job = Job(tmp_path / "files", rows=(2, 2, 2, 2, 2), out="answers.parquet", votes=None)
    job.run()
    found = pq.ParquetFile(job.folder / "answers.parquet").metadata
    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [4, 4, 2]


def test_a_draft_never_shares_its_file_with_the_output(tmp_path: Path) -> None:
    """A death right after a draft was linked into its place leaves one file with two names."""
    path = tmp_path / "answers.csv"
    destination = destination_of(str(path))
    draft = destination.draft(tmp_path, ".csv")
    draft.write_text("whole")
    os.link(draft, path)
    destination.draft(tmp_path, ".csv").write_text("half")
    assert path.read_text() == "whole"


@pytest.mark.parametrize("name", ["votes.jsonl", "votes.ndjson", "votes.parquet", "votes.arrow"])
def test_votes_are_a_table_that_learning_reads(tmp_path: Path, name: str) -> None:
    # All rows of the second part fail: it has no votes.
    job = Job(tmp_path / "files", rows=(2, 1, 2), votes=name, out=None, failing=frozenset({2}))
    job.run()
    table = read_votes(job.folder / name)
    assert [(cell.product, cell.attribute) for cell in table.cells] == [
        (f"s-{row}", attribute) for row in (0, 1, 3, 4) for attribute in ("color", "size")
    ]
    assert table.members == ("a", "b")
    assert {cell.origin.weights_version for cell in table.cells if cell.origin} == {3}
    assert table.cells[2].gold == ("red",)
    assert table.cells[2].scores == (-0.125, None)
    none = Job(tmp_path / "none", votes=name, out=None, failing=frozenset(range(5)))
    none.run()
    assert (none.folder / name).exists()


def test_votes_of_a_folder_are_tables_each(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", rows=(2, 1, 2), votes="votes/", out=None, failing=frozenset({2}))
    job.run()
    assert sorted(job.written()) == ["votes/part-000000.parquet", "votes/part-000002.parquet"]
    assert len(read_votes(job.folder / "votes" / "part-000002.parquet").cells) == 4


def test_columns_of_the_input_are_kept_as_text(tmp_path: Path) -> None:
    form = format_of(target_of("answers", "a.parquet"), LAYOUT, escaped=True)
    odd = [{"sku": 7, "title": {"en": "größe"}}, {"title": None}, {"sku": 1.5, "title": ["a"]}]
    outcomes = [Outcome(type(listing(0))("p", "t", "", {}, row), answer(0)) for row in odd]
    form.write(tmp_path / "a.parquet", outcomes, [])
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [(row["sku"], row["title"]) for row in table] == [
        ("7", '{"en": "größe"}'), (None, None), ("1.5", '["a"]')
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl", "answers.parquet"])
def test_columns_of_times_and_decimals_are_written(tmp_path: Path, name: str) -> None:
    form = format_of(target_of("answers", name), LAYOUT, escaped=True)
    at, price = datetime(2026, 12, 1, 8, tzinfo=UTC), Decimal("1.20")
    row = {"sku": price, "title": {"at": at, "prices": [price]}}
    form.write(tmp_path / name, [Outcome(type(listing(0))("p", "t", "", {}, row), answer(0))], [])
    nested = '{"at": "2026-12-01 08:00:00+00:00", "prices": ["1.20"]}'
    if name == "answers.csv":
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            (found,) = csv.DictReader(file)
        assert (found["sku"], found["title"]) == ("1.20", nested)
    elif name == "answers.parquet":
        (found,) = pq.read_table(tmp_path / name).to_pylist()
        assert (found["sku"], found["title"]) == ('"1.20"', nested)
    else:
        assert json.loads((tmp_path / name).read_text("utf-8"))["product"] == "p"


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet"])
@pytest.mark.parametrize("column", ["color", "size_status", "weights_version", "quorum_cost", "error"])
def test_a_column_of_the_input_is_not_overwritten(tmp_path: Path, name: str, column: str) -> None:
    layout = Layout(("sku", column), ("color", "size"), CATALOGUE)
    with pytest.raises(OutputError, match=f"the input has a column '{column}' already; rename it or"):
        format_of(target_of("answers", name), layout, escaped=True)
    assert Catalogue.of([Attribute("x")])


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        ("answers", "a.csv", Target("answers", "a.csv", "csv")),
        ("answers", "a/", Target("answers", "a", "parquet", is_folder=True)),
        ("answers", "a.csv/", Target("answers", "a.csv", "csv", is_folder=True)),
        ("votes", "v.ndjson", Target("votes", "v.ndjson", "jsonl")),
        ("votes", "v.feather", Target("votes", "v.feather", "arrow")),
        ("answers", "s3://b/a.jsonl", Target("answers", "s3://b/a.jsonl", "jsonl")),
        ("answers", "s3://b/a/", Target("answers", "s3://b/a", "parquet", is_folder=True)),
        ("answers", "file:///b/a.csv", Target("answers", "/b/a.csv", "csv")),
    ],
)
def test_a_name_says_where_and_how(kind: Any, name: str, target: Target) -> None:
    assert target_of(kind, name) == target


def test_a_folder_that_exists_is_one(tmp_path: Path) -> None:
    assert target_of("answers", str(tmp_path)).is_folder
    assert dead_letters_of(target_of("answers", "a/")).name == "a.dead.jsonl"


@pytest.mark.parametrize(
    ("kind", "name"), [("answers", "a.xlsx"), ("answers", "a.arrow"), ("votes", "v.csv")]
)
def test_an_ending_of_no_format_is_refused(kind: Any, name: str) -> None:
    with pytest.raises(OutputError, match=r"cannot tell the format from .*use .jsonl|use .csv, .jsonl"):
        target_of(kind, name)


@pytest.mark.parametrize("name", [".", "./", "/", "answers/..", "../"])
def test_a_folder_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(
        OutputError, match=r"--out .*: has no name of its own; name a file, or a folder such as"
    ):
        target_of("answers", name)


def test_two_outputs_in_one_place_are_refused(tmp_path: Path) -> None:
    answers, votes = (target_of(kind, f"{tmp_path}/a.jsonl") for kind in ("answers", "votes"))
    with pytest.raises(OutputError, match=r"--votes .*: --out is written there; name another"):
        Outputs(targets=(answers, votes))
    with pytest.raises(OutputError, match="nothing to write: name --out"):
        Outputs(targets=(dead_letters_of(answers),))


def test_a_missing_folder_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", out="no/such/answers.csv")
    with pytest.raises(OutputError, match=r"answers.csv: there is no such folder; make it"):
        job.run()
    assert job.asked == []


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    job = Job(tmp_path / "files")
    os.mkfifo(job.folder / "answers.csv")
    with pytest.raises(OutputError, match=r"answers\.csv: is no regular file; name a file"):
        job.run(force=True)
    assert job.asked == []


def test_disks_without_links_get_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    job = Job(tmp_path / "files")
    with job.begin() as ledger:
        job.work_on(ledger)
        (job.folder / "answers.csv").write_text("theirs")
        with pytest.raises(OutputError, match="exists"):
            ledger.finish()
        (job.folder / "answers.csv").unlink()
        ledger.finish()
    right = Job(tmp_path / "right")
    monkeypatch.undo()
    right.run()
    assert job.written() == right.written()


def test_a_link_to_a_file_elsewhere_stays(tmp_path: Path) -> None:
    job = Job(tmp_path / "files")
    (tmp_path / "elsewhere").mkdir()
    (job.folder / "answers.csv").symlink_to(tmp_path / "elsewhere" / "real.csv")
    job.run()
    assert (job.folder / "answers.csv").is_symlink()
    assert (tmp_path / "elsewhere" / "real.csv").read_bytes().startswith(b"sku,title,color")


@pytest.mark.parametrize(("out", "votes"), [("answers.parquet", "votes.jsonl"), ("answers.csv/", "votes/")])
def test_object_stores_get_what_disks_get(
    tmp_path: Path, store: MemoryFileSystem, out: str, votes: str
) -> None:
    local = Job(tmp_path / "local" / "files", out=out, votes=votes, bad=frozenset({1}))
    local.run()
    wanted = {f"/bucket/{name}": raw for name, raw in local.written().items()}
    urls = {"out": f"memory://bucket/{out}", "votes": f"memory://bucket/{votes}"}
    for operation in itertools.count(0, 1 if os.environ.get("QUORUM_LONG") else 7):
        store.store.clear()
        job = Job(tmp_path / f"{operation}" / "files", **urls, bad=frozenset({1}))
        died = died_before(operation, job.folder, job.run)
        job.run()
        assert stored(store) == wanted, operation
        assert len(job.asked) <= 4 + died
        if not died:
            break


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_put_that_is_cut_off_is_done_again(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    original = MemoryFileSystem.put_file
    for number in range(4):
        store.store.clear()
        left = number

        def put_file(self: Any, source: str, path: str, **options: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0 and when == "before":
                raise Died
            original(self, source, path, **options)
            if left < 0:
                raise Died

        job = Job(tmp_path / f"{number}" / "files", out="memory://b/answers/", votes="memory://b/v.parquet")
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "put_file", put_file)
            try:
                job.run()
            except Died:
                assert number < 3
            else:
                assert number == 3
        job.run()
        assert sorted(stored(store)) == [
            "/b/answers/part-000000.parquet", "/b/answers/part-000001.parquet", "/b/v.parquet"
        ]  # fmt: skip
        assert job.asked == [0, 1, 2, 3, 4]


def test_an_object_is_made_under_a_condition_and_never_renamed(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    original = MemoryFileSystem.put_file

    def put_file(self: Any, source: str, path: str, **options: Any) -> None:
        modes.append((path, options.get("mode")))
        original(self, source, path, **options)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("an object may not be renamed")

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    for name in ("mv", "move", "rename", "cp_file", "copy"):
        monkeypatch.setattr(MemoryFileSystem, name, refused)
    job = Job(tmp_path / "files", out="memory://b/a.csv", votes=None, failing=frozenset({1}))
    job.run()
    assert modes == [("/b/a.csv", "create")]
    job.failing = frozenset()
    job.run(retry=True)
    assert modes[1:] == [("/b/a.csv", None)]


def test_an_object_that_appears_in_the_last_moment_is_kept(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the put: the condition of the put alone protects it."""
    job = Job(tmp_path / "files", out="memory://b/a.csv", votes=None)
    original = MemoryFileSystem.put_file

    def put_file(self: Any, source: str, path: str, **options: Any) -> None:
        self.pipe_file("/b/a.csv", b"theirs")
        original(self, source, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    with pytest.raises(OutputError, match=r"memory://b/a.csv exists, and is not as this job wrote it"):
        job.run()
    assert stored(store) == {"/b/a.csv": b"theirs"}
    with pytest.raises(OutputError, match="exists"):
        job.run()
    store.rm("/b/a.csv")
    monkeypatch.undo()
    job.run()
    assert stored(store)["/b/a.csv"].startswith(b"sku,title")


def test_objects_of_others_are_refused_at_once(tmp_path: Path, store: MemoryFileSystem) -> None:
    store.pipe_file("/b/a.csv", b"theirs")
    store.pipe_file("/b/parts/x.parquet", b"theirs")
    for out in ("memory://b/a.csv", "memory://b/parts/"):
        job = Job(tmp_path / out.rpartition("b/")[2].strip("/"), out=out, votes=None)
        with pytest.raises(OutputError, match=r"exists|holds 'x.parquet' already"):
            job.run()
        assert job.asked == []
    job = Job(tmp_path / "forced", out="memory://b/a.csv", votes=None)
    job.run(force=True)
    assert stored(store)["/b/a.csv"].startswith(b"sku,title")


def test_a_store_that_fails_loses_nothing(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoreError(Exception):
        """As stores have them that are no OSError."""

    def put_file(*_: object, **__: object) -> None:
        raise StoreError("quota of the bucket is used up")

    job = Job(tmp_path / "files", out="memory://b/a.csv", votes=None)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", put_file)
        with pytest.raises(StorageFailed, match=r"memory://b/a.csv: StoreError: quota of the bucket"):
            job.run()
    job.run()
    assert job.asked == [0, 1, 2, 3, 4]
    assert list(stored(store)) == ["/b/a.csv"]


def test_a_url_without_a_package_says_what_to_install() -> None:
    with pytest.raises(OutputError, match=r"nowhere://b/a.csv: cannot be written .*install fsspec and"):
        destination_of("nowhere://b/a.csv")


def test_part_files_of_a_failed_row_name_it(tmp_path: Path) -> None:
    form = format_of(target_of("answers", "a.csv"), LAYOUT, escaped=False)
    form.write(tmp_path / "a.csv", [Outcome(listing(0), DeadlineExceeded("=late"))], [])
    assert (tmp_path / "a.csv").read_text("utf-8").splitlines()[1].endswith(",=late")
