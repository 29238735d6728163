# SPDX-License-Identifier: Apache-2.0
"""Append the answers of a run to a Delta Lake table, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorum.bulk.export.answers import APPLICATION, ExportError, ExportReport, ParquetAnswers, open_answers

_DIGEST = f"{APPLICATION}.sha256"
# A transaction of this name says which version replaced all rows of those before.
_REPLACED = f"{APPLICATION}:replaced"
# How many versions others may add while one is committed and looked up.
_NEWEST = 50


def export_delta(
    source: str | Path, table: str | Path, *, replace: bool = False, options: Mapping[str, str] | None = None
) -> ExportReport:
    """Append Parquet answers to a Delta table, which is made if it is missing; one version is added.

    The version records what it holds, as a transaction of the Delta protocol, so that the same rows are added
    once however often this is called, also after it was killed.

    Args:
        source: Parquet file, or folder of Parquet files, that ``extract`` wrote.
        table: Folder or URI of the table (``s3://bucket/table``).
        replace: Replace all rows of the table; its earlier versions stay readable.
        options: Options of the object store, ``storage_options`` of ``deltalake``.

    Raises:
        ExportError: deltalake is not installed, the source or the table does not fit, the job that writes the
            source is not complete, or the table has other answers of that job.
    """
    try:
        import deltalake
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise ExportError("Delta tables need deltalake: pip install 'quorum[delta]'") from error
    answers, target, stored = open_answers(Path(source)), str(table), dict(options or {}) or None
    transaction = f"{APPLICATION}:{answers.digest}"
    of_job = f"{APPLICATION}:job:{answers.job}"
    transactions = [transaction, *([of_job] if answers.job else []), *([_REPLACED] if replace else [])]
    try:
        next_version = 0
        if deltalake.DeltaTable.is_deltatable(target, stored):
            present = deltalake.DeltaTable(target, storage_options=stored)
            added = present.transaction_version(transaction)
            since = present.transaction_version(_REPLACED) or 0
            if added is not None and added >= since and not replace:
                return ExportReport(answers.path, target, answers.rows, added, written=False)
            others = present.transaction_version(of_job)
            if others is not None and others >= since and not replace:
                raise answers.refuse_others(target, others)
            next_version = present.version() + 1
        deltalake.write_deltalake(
            target,
            answers.batches(),
            mode="overwrite" if replace else "append",
            schema_mode="overwrite" if replace else None,
            storage_options=stored,
            commit_properties=deltalake.CommitProperties(
                custom_metadata={_DIGEST: answers.digest},
                app_transactions=[deltalake.Transaction(name, next_version) for name in transactions],
            ),
        )
        written = deltalake.DeltaTable(target, storage_options=stored)
    except DeltaError as error:
        raise ExportError(
            f"{target}: {error}; if the columns of the table are others, export to another one, or replace it"
            " with --replace"
        ) from error
    return ExportReport(answers.path, target, answers.rows, _version_of(written, answers), written=True)


def _version_of(table: Any, answers: ParquetAnswers) -> int:
    """The version that holds the answers: others may have added some since."""
    entries = table.history(_NEWEST)
    own = (entry["version"] for entry in entries if entry.get(_DIGEST) == answers.digest)
    return int(next(own, table.version()))
