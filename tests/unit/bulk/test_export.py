# SPDX-License-Identifier: Apache-2.0
"""Answers in Parquet are copied into tables of Delta Lake and Iceberg, each row once."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ray_env
from support.command import quorum

from quorum.bulk.export.answers import ExportError, open_answers

READ_DELTA = """
import json, sys, deltalake
table = deltalake.DeltaTable(sys.argv[1])
rows = table.to_pyarrow_table().sort_by("product").to_pylist()
print(json.dumps({"version": table.version(), "rows": rows}))
"""
READ_ICEBERG = """
import json, sys
from pyiceberg.catalog import load_catalog
catalog = load_catalog("local", uri=sys.argv[1], warehouse=sys.argv[2], type="sql")
table = catalog.load_table("products.answers")
rows = table.scan().to_arrow().sort_by("product").to_pylist()
print(json.dumps({"commits": len(table.metadata.metadata_log), "rows": rows}))
"""


def answers(first: int, rows: int = 3) -> pa.Table:
    """Rows as a run writes them, of types that tables do not have as well."""
    numbers = range(first, first + rows)
    return pa.table(
        {
            "product": [f"p{n}" for n in numbers],
            "color": pa.array(["red", None, "größe"] * rows)[:rows].dictionary_encode(),
            "color_confidence": pa.array([0.5 + n / 100 for n in numbers], pa.float32()),
            "weights_version": pa.array([1] * rows, pa.uint32()),
            "error": pa.nulls(rows),
        }
    )


def write_parts(folder: Path) -> Path:
    folder.mkdir()
    for part in range(2):
        pq.write_table(answers(3 * part), folder / f"part-{part:05}.parquet")
    (folder / ".unfinished.parquet").write_bytes(b"half a file")
    return folder


def test_the_parts_of_a_folder_are_read_in_order_with_types_of_tables(tmp_path: Path) -> None:
    opened = open_answers(write_parts(tmp_path / "answers"))
    read = opened.batches().read_all()
    assert opened.rows == read.num_rows == 6
    assert read["product"].to_pylist() == [f"p{n}" for n in range(6)]
    assert read["color"].to_pylist()[:3] == ["red", None, "größe"]
    assert [str(field.type) for field in read.schema] == ["string", "string", "float", "int64", "string"]


def test_the_digest_tells_other_rows_apart(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "answers")
    first = open_answers(folder).digest
    assert open_answers(folder).digest == first
    pq.write_table(answers(7), folder / "part-00001.parquet")
    assert open_answers(folder).digest != first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"product\np0\n", "--out answers.parquet"),
        ("missing.parquet", None, "no such file"),
        ("a.parquet", b"PAR1 cut off", "cannot be read as Parquet"),
    ],
)
def test_a_source_that_cannot_be_copied_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        open_answers(tmp_path / name)


def test_a_folder_without_parquet_and_one_of_two_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no \.parquet files"):
        open_answers(tmp_path)
    folder = write_parts(tmp_path / "answers")
    pq.write_table(answers(9).drop_columns("error"), folder / "part-00002.parquet")
    with pytest.raises(ExportError, match=r"part-00002\.parquet: its columns differ"):
        open_answers(folder)


@pytest.mark.parametrize(("table", "extra"), [("delta", "delta"), ("iceberg", "iceberg")])
def test_without_the_library_the_message_says_what_to_install(tmp_path: Path, table: str, extra: str) -> None:
    pytest.importorskip("pyarrow")
    _, said = quorum(tmp_path, "export", table, "a.parquet", "products.answers", code=1)
    assert f"pip install 'quorum[{extra}]'" in said


@ray_env.LONG
@pytest.mark.slow
def test_a_delta_table_has_each_row_once_however_often_it_is_exported(tmp_path: Path) -> None:
    write_parts(tmp_path / "answers")
    target = tmp_path / "lake" / "answers"
    for written in (True, False):
        out, _ = ray_env.quorum(tmp_path, "export", "delta", "answers", target, "--json")
        report = json.loads(out)
        assert (report["rows"], report["version"], report["written"]) == (6, 0, written)
    table = ray_env.python(READ_DELTA, target)
    assert table["version"] == 0
    assert [row["product"] for row in table["rows"]] == [f"p{n}" for n in range(6)]
    assert [row["color"] for row in table["rows"]][:3] == ["red", None, "größe"]
    pq.write_table(answers(6), tmp_path / "more.parquet")
    ray_env.quorum(tmp_path, "export", "delta", "more.parquet", target)
    table = ray_env.python(READ_DELTA, target)
    assert (table["version"], len(table["rows"])) == (1, 9)
    ray_env.quorum(tmp_path, "export", "delta", "answers", target, "--replace")
    # These were replaced, so they are added again.
    ray_env.quorum(tmp_path, "export", "delta", "more.parquet", target)
    table = ray_env.python(READ_DELTA, target)
    assert (table["version"], len(table["rows"])) == (3, 9)
    pq.write_table(answers(0).drop_columns("color"), tmp_path / "other.parquet")
    ray_env.quorum(tmp_path, "export", "delta", "other.parquet", target, "--replace")
    table = ray_env.python(READ_DELTA, target)
    assert (table["version"], len(table["rows"])) == (4, 3)
    _, said = ray_env.quorum(tmp_path, "export", "delta", "more.parquet", target, code=1)
    assert "--replace" in said


@ray_env.LONG
@pytest.mark.slow
def test_an_iceberg_table_has_each_row_once_however_often_it_is_exported(tmp_path: Path) -> None:
    write_parts(tmp_path / "answers")
    (tmp_path / "warehouse").mkdir()
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    options = [f"--option=uri={uri}", f"--option=warehouse={warehouse}", "--option=type=sql"]
    command = ("products.answers", "--catalog", "local", *options, "--json")
    versions = []
    for written in (True, False):
        report = json.loads(ray_env.quorum(tmp_path, "export", "iceberg", "answers", *command)[0])
        assert (report["rows"], report["written"]) == (6, written)
        versions.append(report["version"])
    assert versions[0] == versions[1]
    table = ray_env.python(READ_ICEBERG, uri, warehouse)
    assert [row["product"] for row in table["rows"]] == [f"p{n}" for n in range(6)]
    # The one that made the table is noted as the first commit replaces it.
    assert table["commits"] == 1
    pq.write_table(answers(6), tmp_path / "more.parquet")
    ray_env.quorum(tmp_path, "export", "iceberg", "more.parquet", *command)
    table = ray_env.python(READ_ICEBERG, uri, warehouse)
    assert (table["commits"], len(table["rows"])) == (2, 9)
    ray_env.quorum(tmp_path, "export", "iceberg", "more.parquet", *command, "--replace")
    assert len(ray_env.python(READ_ICEBERG, uri, warehouse)["rows"]) == 3
    # These were replaced, so they are added again.
    report = json.loads(ray_env.quorum(tmp_path, "export", "iceberg", "answers", *command)[0])
    assert report["written"]
    assert len(ray_env.python(READ_ICEBERG, uri, warehouse)["rows"]) == 9
