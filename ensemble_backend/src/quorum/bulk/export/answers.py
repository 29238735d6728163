# SPDX-License-Identifier: Apache-2.0
"""The Parquet files that an export copies: one file, or the parts in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quorum.bulk.ledger.errors import LedgerError
from quorum.bulk.ledger.folder import JobFolder
from quorum.bulk.ledger.spec import hash_of
from quorum.records import Record
from quorum_contract.errors import QuorumError

if TYPE_CHECKING:
    import pyarrow as pa

APPLICATION = "quorum"
"""Names this program in the log of a table."""


class ExportError(QuorumError, ValueError):
    """Answers cannot be copied into a table; the message names the file or the table and the fix."""

    code = "EXPORT_REFUSED"


@dataclass(frozen=True, slots=True)
class ExportReport(Record):
    """What an export did.

    Attributes:
        source: File or folder that was copied.
        table: URI or name of the table.
        rows: Rows in the source.
        version: Version of the Delta table, or id of the Iceberg snapshot, that added them.
        written: False: an earlier export had added these very rows, so nothing was written.
    """

    source: Path
    table: str
    rows: int
    version: int
    written: bool


@dataclass(frozen=True, slots=True)
class ParquetAnswers:
    """Parquet files with one schema.

    Attributes:
        path: File or folder, as named.
        files: The files, sorted by name.
        schema: Their columns, with types that every table format has.
        rows: Rows of all files.
        digest: SHA-256 of the content of all files, in hexadecimal; tells whether a table has the rows.
        job: Id of the job that wrote them; None: its folder is not next to them.
    """

    path: Path
    files: tuple[Path, ...]
    schema: pa.Schema
    rows: int
    digest: str
    job: str | None = None

    def batches(self) -> pa.RecordBatchReader:
        """Read the rows batch by batch, in the order of the files; memory does not grow with their size."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self._read())

    def _read(self) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches():
                yield batch.cast(self.schema)

    def refuse_others(self, table: str, version: int) -> ExportError:
        """The error of a table that has other answers of this job, since a version."""
        return ExportError(
            f"{table} has other answers of the job of {self.path}, since version {version}; with these, rows"
            " would be there twice. Replace all rows of the table by --replace, those of other jobs too, or"
            " export to another table"
        )


def open_answers(path: Path) -> ParquetAnswers:
    """Open a Parquet file, or the Parquet files in a folder.

    Raises:
        ExportError: There is none, one cannot be read, two differ in their columns, or the job that writes
            them is not complete.
    """
    job = _job_of(path)
    files = tuple(sorted(path.rglob("*.parquet"))) if path.is_dir() else (path,)
    files = tuple(file for file in files if not _is_unfinished(file.relative_to(path)))
    if not files:
        raise ExportError(
            f"{path}: has no .parquet files; write some with `quorum extract --out answers.parquet`"
        )
    if files[0].suffix != ".parquet":
        raise ExportError(
            f"{path}: a table needs columns with types, as Parquet has; run `quorum extract` with "
            "`--out answers.parquet`, and export that file"
        )
    schema, rows, sha = None, 0, hashlib.sha256()
    for file in files:
        own, count = _look_at(file)
        if schema is not None and own != schema:
            raise ExportError(
                f"{file}: its columns differ from those of {files[0]}; export a folder that one command wrote"
            )
        schema, rows = own, rows + count
        with file.open("rb") as content:
            sha.update(hashlib.file_digest(content, "sha256").digest())
    return ParquetAnswers(path, files, schema, rows, sha.hexdigest(), job)


def _is_unfinished(inside: Path) -> bool:
    """Whether a file lies in the folder of a job, or under a name that begins with a dot, as drafts do."""
    return any(part.startswith(".") or part.endswith(".job") for part in inside.parts)


def _job_of(path: Path) -> str | None:
    """Id of the job that wrote a file, a folder or a part in it; raises ExportError if it is not complete."""
    whole = path.resolve()
    for output in (whole, whole.parent):
        own = f"{output.name}.job"
        for folder_path in sorted(output.parent.glob("*.job"), key=lambda path: path.name != own):
            folder = JobFolder(folder_path)
            try:
                spec = folder.stored()
            except LedgerError:
                if folder_path.name == own:
                    raise
                continue
            if spec is None:
                continue
            targets = [target for target in spec["outputs"].values() if isinstance(target, dict)]
            # The names may be relative to a folder that is not known here.
            if output.name not in {Path(target["name"]).name for target in targets}:
                continue
            if not folder.complete.exists():
                raise ExportError(
                    f"{path}: the job that writes it ({folder.path}) is not complete; run the same `quorum"
                    " extract` command again to go on with it, then export"
                )
            return hash_of(spec)
    return None


def _look_at(file: Path) -> tuple[pa.Schema, int]:
    """Columns, as tables have them, and number of rows of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            fields = [pa.field(field.name, _table_type(field.type)) for field in schema]
            return pa.schema(fields), opened.metadata.num_rows
    except FileNotFoundError as error:
        raise ExportError(f"{file}: no such file") from error
    except (OSError, pa.ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise ExportError(f"{file}: cannot be read as Parquet ({first}); is it cut off?") from error


def _table_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column of a table has: no dictionaries, no unsigned integers, no columns of nulls."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _table_type(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return pa.int64() if pa.types.is_unsigned_integer(kind) else kind
