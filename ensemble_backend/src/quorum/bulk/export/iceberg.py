# SPDX-License-Identifier: Apache-2.0
"""Append the answers of a run to an Apache Iceberg table, in one commit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorum.bulk.export.answers import (
    APPLICATION,
    ExportError,
    ExportReport,
    ParquetAnswers,
    open_answers,
)

if TYPE_CHECKING:
    import pyarrow as pa

_DIGEST, _JOB, _REPLACED = (f"{APPLICATION}.{name}" for name in ("sha256", "job", "replaced"))
# Rows that are in memory at a time; a file of the table has at most as many.
_ROWS = 200_000


def export_iceberg(
    source: str | Path,
    table: str,
    *,
    catalog: str = "default",
    replace: bool = False,
    options: Mapping[str, str] | None = None,
) -> ExportReport:
    """Append Parquet answers to an Iceberg table, which is made if it is missing; one commit adds them.

    The snapshot notes what it holds (``quorum.sha256`` in its summary), so that the same rows are added once
    however often this is called, also after it was killed.

    Args:
        source: Parquet file, or folder of Parquet files, that ``extract`` wrote.
        table: ``NAMESPACE.TABLE`` in the catalog.
        catalog: Name of the catalog in ``.pyiceberg.yaml``, or for ``options``.
        replace: Replace all rows of the table; its earlier snapshots stay readable.
        options: Properties of the catalog and its file store, as of ``pyiceberg.catalog.load_catalog``.

    Raises:
        ExportError: pyiceberg is not installed, the source, the catalog or the table does not fit, the job
            that writes the source is not complete, or the table has other answers of that job.
    """
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NoSuchTableError
    except ImportError as error:
        raise ExportError("Iceberg tables need pyiceberg: pip install 'quorum[iceberg]'") from error
    answers = open_answers(Path(source))
    if "." not in table:
        raise ExportError(f"{table!r} names no namespace; write NAMESPACE.TABLE")
    try:
        store = load_catalog(catalog, **dict(options or {}))
        try:
            target = store.load_table(table)
        except NoSuchTableError:
            store.create_namespace_if_not_exists(table.rpartition(".")[0])
            target = store.create_table(table, schema=answers.schema)
        if not replace and (added := _snapshot_with(target, answers, table)) is not None:
            return ExportReport(answers.path, table, answers.rows, added, written=False)
        # It prints how columns differ, and standard output is the caller's.
        with redirect_stdout(sys.stderr):
            _write(target, answers, replace=replace)
    except ExportError:
        raise
    except Exception as error:
        # Catalogs raise what their own libraries raise: of SQL, REST, Glue, Hive.
        raise ExportError(
            f"{table}: {type(error).__name__}: {str(error).partition(chr(10))[0]}; check the catalog"
            f" {catalog!r}, or if the columns of the table are others, export to another one"
        ) from error
    snapshot = target.current_snapshot()
    return ExportReport(answers.path, table, answers.rows, snapshot.snapshot_id, written=True)


def _snapshot_with(table: Any, answers: ParquetAnswers, name: str) -> int | None:
    """The snapshot that added these answers, unless all was replaced since; else None.

    Raises ExportError where one added other answers of the same job.
    """
    for snapshot in reversed(table.snapshots()):
        summary = snapshot.summary or {}
        if summary.get(_DIGEST) == answers.digest:
            return int(snapshot.snapshot_id)
        if answers.job is not None and summary.get(_JOB) == answers.job:
            raise answers.refuse_others(name, snapshot.snapshot_id)
        if summary.get(_REPLACED):
            return None
    return None


def _write(table: Any, answers: ParquetAnswers, *, replace: bool) -> None:
    """Add the answers, in chunks that fit into memory; all of them become visible by one commit."""
    from pyiceberg.expressions import AlwaysTrue

    noted = {_DIGEST: answers.digest} | ({_JOB: answers.job} if answers.job else {})
    noted |= {_REPLACED: "true"} if replace else {}
    with table.transaction() as change:
        if replace and table.current_snapshot() is not None:
            change.delete(AlwaysTrue(), snapshot_properties=noted)
        for chunk in _chunks(answers):
            change.append(chunk, snapshot_properties=noted)


def _chunks(answers: ParquetAnswers) -> Iterator[pa.Table]:
    """The rows in tables of about :data:`_ROWS`; of no rows one empty table."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    held = 0
    for batch in answers.batches():
        batches.append(batch)
        held += batch.num_rows
        if held >= _ROWS:
            yield pa.Table.from_batches(batches, answers.schema)
            batches, held = [], 0
    if batches or not answers.rows:
        yield pa.Table.from_batches(batches, answers.schema)
