# SPDX-License-Identifier: Apache-2.0
"""Answers in Parquet are copied into tables of Delta Lake and Iceberg, each row once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ray_env
from support.bulk_jobs import Job
from support.command import quorum

from quorum.bulk.export.answers import ExportError, open_answers
from quorum_contract.errors import QuorumError

DELTA = """
import json, sys, deltalake, quorum
table = "lake/answers"
def export(source, **how):
    report = quorum.export_delta(source, table, **how)
    return [report.rows, report.version, report.written]
def rows():
    return deltalake.DeltaTable(table).to_pyarrow_table().sort_by("product").to_pylist()
"""
ICEBERG = """
import json, sys, quorum
from pyiceberg.catalog import load_catalog
place = {"type": "sql", "uri": "sqlite:///catalog.db", "warehouse": "warehouse"}
def loaded():
    return load_catalog("local", **place).load_table("products.answers")
def export(source, **how):
    report = quorum.export_iceberg(source, "products.answers", catalog="local", options=place, **how)
    return [report.rows, report.version, report.written]
def rows():
    return loaded().scan().to_arrow().sort_by("product").to_pylist()
"""
STEPS = """
found = {"first": export("answers"), "second": export("answers"), "rows": rows()}
found["more"], found["after more"] = export("more.parquet"), len(rows())
found["replaced"], found["after replacing"] = export("answers", replace=True), len(rows())
found["again"], found["after that"] = export("more.parquet"), len(rows())
try:
    export("other.parquet")
except quorum.QuorumError as error:
    found["refused"] = [error.code, str(error)]
print(json.dumps(found))
"""
OF_A_JOB = """
found = {"first": export("answers"), "second": export("answers")}
import os
os.rename("answers", "earlier"); os.rename("retried", "answers")
try:
    export("answers")
except quorum.QuorumError as error:
    found["refused"] = [error.code, str(error)]
found["rows"] = len(rows())
found["other job"] = export("more.parquet")
found["replaced"], found["after replacing"] = export("answers", replace=True), len(rows())
found["again"] = export("answers")
print(json.dumps(found))
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


def write_job(folder: Path) -> Job:
    """Parts of a complete job, and its folder."""
    job = InPlace(folder, out="answers/", votes=None)
    job.run()
    shutil.rmtree(folder / "answers")
    write_parts(folder / "answers")
    return job


class InPlace(Job):
    """A job whose folder has the name that it has by default."""

    @property
    def path(self) -> Path:
        return self.folder / "answers.job"


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


@pytest.mark.parametrize("source", ["answers", "answers/part-00000.parquet"])
def test_answers_of_a_job_that_is_not_complete_are_refused(tmp_path: Path, source: str) -> None:
    job = write_job(tmp_path)
    opened = open_answers(tmp_path / source)
    assert opened.job is not None
    assert opened.job == open_answers(tmp_path / "answers").job
    # As while failed rows are asked again.
    (job.path / "complete.json").unlink()
    with pytest.raises(ExportError, match=r"answers\.job\) is not complete; run the same `quorum extract`"):
        open_answers(tmp_path / source)
    # Another job beside it says nothing of these.
    pq.write_table(answers(6), tmp_path / "more.parquet")
    assert open_answers(tmp_path / "more.parquet").job is None


def test_the_folders_of_jobs_in_a_source_are_left_out(tmp_path: Path) -> None:
    # Parts that wait for a failed row to be asked again are Parquet too.
    job = InPlace(tmp_path / "all", out="answers.parquet", votes=None, failing=frozenset([1]))
    job.run()
    assert list(job.path.rglob("*.parquet"))
    assert open_answers(tmp_path / "all").files == (tmp_path / "all" / "answers.parquet",)


def test_a_job_beside_the_source_that_cannot_be_read_counts_only_where_it_is_its_own(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    other = tmp_path / "another.job"
    other.mkdir()
    (other / "job.json").write_text("{}")
    assert open_answers(tmp_path / "answers").job is not None
    (job.path / "job.json").write_text("{}")
    with pytest.raises(QuorumError, match="this is no bulk job"):
        open_answers(tmp_path / "answers")


@pytest.mark.parametrize(("table", "extra"), [("delta", "delta"), ("iceberg", "iceberg")])
def test_without_the_library_the_message_says_what_to_install(tmp_path: Path, table: str, extra: str) -> None:
    pytest.importorskip("pyarrow")
    _, said = quorum(tmp_path, "export", table, "a.parquet", "products.answers", code=1)
    assert f"pip install 'quorum[{extra}]'" in said


@ray_env.LONG
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("setup", [DELTA, ICEBERG], ids=["delta", "iceberg"])
def test_a_table_has_each_row_once_however_often_it_is_exported(tmp_path: Path, setup: str) -> None:
    write_parts(tmp_path / "answers")
    (tmp_path / "warehouse").mkdir()
    pq.write_table(answers(6), tmp_path / "more.parquet")
    pq.write_table(pa.table({"product": [1], "color": [2.5]}), tmp_path / "other.parquet")
    found = ray_env.python(tmp_path, setup + STEPS)
    assert [found["first"][0], found["first"][2]] == [6, True]
    assert found["second"] == [*found["first"][:2], False]
    assert [row["product"] for row in found["rows"]] == [f"p{n}" for n in range(6)]
    assert [row["color"] for row in found["rows"]][:3] == ["red", None, "größe"]
    assert [row["weights_version"] for row in found["rows"]] == [1] * 6
    assert (found["more"][2], found["after more"]) == (True, 9)
    assert (found["replaced"][2], found["after replacing"]) == (True, 6)
    # These were replaced, so they are added again.
    assert (found["again"][2], found["after that"]) == (True, 9)
    assert found["refused"][0] == "EXPORT_REFUSED"
    assert "export to another" in found["refused"][1]


@ray_env.LONG
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("setup", [DELTA, ICEBERG], ids=["delta", "iceberg"])
def test_answers_that_a_job_has_changed_are_added_by_replacing_only(tmp_path: Path, setup: str) -> None:
    write_job(tmp_path)
    write_parts(tmp_path / "retried")
    pq.write_table(answers(7), tmp_path / "retried" / "part-00001.parquet")
    (tmp_path / "warehouse").mkdir()
    pq.write_table(answers(6), tmp_path / "more.parquet")
    found = ray_env.python(tmp_path, setup + OF_A_JOB)
    assert (found["first"][2], found["second"][2]) == (True, False)
    assert found["refused"][0] == "EXPORT_REFUSED"
    assert "--replace" in found["refused"][1]
    assert (found["rows"], found["other job"][2]) == (6, True)
    assert (found["replaced"][2], found["after replacing"], found["again"][2]) == (True, 6, False)


@ray_env.LONG
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    pq.write_table(answers(6), tmp_path / "more.parquet")
    out, _ = ray_env.quorum(tmp_path, "export", "delta", "more.parquet", "lake", "--json")
    assert json.loads(out) == {
        "source": "more.parquet",
        "table": "lake",
        "rows": 3,
        "version": 0,
        "written": True,
    }
    _, said = ray_env.quorum(tmp_path, "export", "delta", "more.parquet", "lake")
    assert "has these 3 rows already, since version 0" in said
