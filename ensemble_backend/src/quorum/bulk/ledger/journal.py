# SPDX-License-Identifier: Apache-2.0
"""The journal of a part: a header, then an outcome a line, only appended to; packed when all are there."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from quorum.bulk.inputs.scan import Part
from quorum.bulk.ledger.entry import Entry
from quorum.bulk.ledger.errors import LedgerError
from quorum.files import sync_file, sync_folder, write_all

KIND = "quorum.extract.journal"
SCHEMA_VERSION = 1


def header_of(job: str, part: Part) -> dict[str, Any]:
    """The first line of a journal, as plain JSON values: which rows of which job it is of."""
    rows = {"part": part.number, "first": part.first, "rows": part.rows}
    return {"kind": KIND, "schema_version": SCHEMA_VERSION, "job": job, **rows}


class Journal:
    """A journal that is open to be appended to."""

    def __init__(self, path: Path, header: Mapping[str, Any], end: int) -> None:
        """Open the file, and cut off what is behind ``end``, its last whole line; 0: begin it.

        Raises:
            OSError: It cannot be written.
        """
        self._path, self._end = path, end
        self.is_synced = True
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(self._handle, end)
            if not end:
                self.append(msgspec.json.encode(header) + b"\n")
                sync_folder(path.parent)
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, line: bytes) -> None:
        """Write a line, whole or not at all; raises OSError if it cannot be."""
        self.is_synced = False
        try:
            write_all(self._handle, line, self._end)
        except OSError:
            os.ftruncate(self._handle, self._end)
            raise
        self._end += len(line)

    def sync(self) -> None:
        """Have it on the disk."""
        if not self.is_synced:
            os.fsync(self._handle)
            self.is_synced = True

    def close(self) -> None:
        """Close the file; it may be closed already."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def read_journal(path: Path, header: Mapping[str, Any]) -> tuple[dict[int, Entry], int]:
    """Read a journal, packed (``.gz``) or not; of a row's outcomes the last counts.

    Returns:
        Row -> outcome, and the place behind the last whole line: a line that was cut off is dropped.

    Raises:
        LedgerError: It is of another job or part, or damaged.
        OSError: It cannot be read.
    """
    entries: dict[int, Entry] = {}
    end = number = 0
    rows = range(header["first"], header["first"] + header["rows"])
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                if number == 1:
                    _check_header(path, line, header)
                else:
                    entry = Entry.from_line(line)
                    if entry.row not in rows:
                        raise ValueError(f"row {entry.row} is of another part or job")
                    entries[entry.row] = entry
                end += len(line)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        if isinstance(error, LedgerError):
            raise
        raise LedgerError(
            f"{path}, line {number}: {error}; the file is damaged. Remove it to ask its rows again"
        ) from error
    return entries, end


def pack(path: Path, header: Mapping[str, Any], lines: Iterable[bytes]) -> None:
    """Write a packed journal in place of an earlier one; the same lines of outcomes give the same bytes.

    Raises:
        OSError: It cannot be written.
    """
    draft = path.with_name(f"draft-{path.name}")
    # Neither name nor time of writing.
    with draft.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        file.write(msgspec.json.encode(header) + b"\n")
        file.writelines(lines)
    sync_file(draft)
    os.replace(draft, path)  # noqa: PTH105


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _check_header(path: Path, line: bytes, header: Mapping[str, Any]) -> None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise LedgerError(f"{path}, line 1: {error}; this is no journal of a bulk job. Remove it") from error
    if found == dict(header):
        return
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise LedgerError(f"{path}: this is no journal of a bulk job; remove it")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise LedgerError(f"{path}: a journal of another release of quorum; finish the job with that one")
    raise LedgerError(
        f"{path}: this journal is of another job or part; remove it, and the rows of part "
        f"{header['part']} are asked again"
    )
