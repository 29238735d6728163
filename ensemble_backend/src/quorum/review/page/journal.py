# SPDX-License-Identifier: Apache-2.0
"""Append people's decisions to a file, one JSON line each, so that none is lost when the process is killed.

The first line is a header. A line counts once it ends in a line feed: what a killed process, or a full disk,
left of a line is cut off before the next one is written.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from quorum.files import sync_folder
from quorum.review.choose import LabelError

SCHEMA_VERSION = 1
Mode = Literal["review", "adjudicate"]
"""``review``: a person's own answer. ``adjudicate``: the answer that counts where people differ."""
Verdict = Literal["answer", "unsure", "skip", "undo"]


class Header(msgspec.Struct, frozen=True):
    """First line of a journal.

    Attributes:
        review_journal: Version of the format.
        out: Name of the table with gold; "" for any.
    """

    review_journal: int
    out: str = ""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision.

    Attributes:
        at: When, in seconds since 1970.
        reviewer: Who.
        mode: Own answer, or adjudication.
        verdict: ``undo`` takes back this person's latest decision of the mode that still counts.
        product: With ``attribute``, the cell; "" for ``undo``.
        gold: The acceptable answers of ``answer``, the preferred one first.
        shown: The ensemble's answer at that moment; ``confidence``: of it.
        note: A remark of the person.
        text: Of the product's text, :func:`text_hash`; "" in journals that have none.
    """

    at: float
    reviewer: str
    mode: Mode
    verdict: Verdict
    product: str = ""
    attribute: str = ""
    gold: tuple[str, ...] = ()
    shown: str = ""
    confidence: float = 0.0
    note: str = ""
    text: str = ""


def text_hash(text: str) -> str:
    """What tells a product's text from another one: 16 digits of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Journal:
    """An open journal; no other process can open it meanwhile.

    Args:
        path: Its file.
        out: Name of the table with gold that it is of.

    Attributes:
        path: Its file.
        entries: Those that it had when it was opened.

    Raises:
        LabelError: Another process has it, it is no journal or of another table, or a line in its middle is
            damaged.
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path, out: str) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            self.entries, self._size = _read(path, out)
            os.ftruncate(self._file, self._size)
            if not self._size:
                self._write(msgspec.json.encode(Header(SCHEMA_VERSION, out)))
                sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, entry: Entry) -> None:
        """Write an entry; it is on the disk when this returns. Raises OSError, and then nothing is kept."""
        self._write(msgspec.json.encode(entry))

    def close(self) -> None:
        """Let others open it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabelError(
                f"{self.path}: another `quorum review` has it open; several people can use that one page, "
                "each under their own name"
            ) from error

    def _check_place(self) -> None:
        """Raise OSError where the path is no longer this file: what is written would be missed later."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file), self.path.stat()):
                return
        raise OSError(errno.ESTALE, "somebody has moved or replaced it; put it back", str(self.path))

    def _write(self, line: bytes) -> None:
        data = line + b"\n"
        self._check_place()
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self._size + done)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            error.filename = error.filename or str(self.path)
            raise
        self._size += len(data)


def read_journal(path: Path) -> list[Entry]:
    """The entries of a journal, which a process may have open; raises LabelError as :class:`Journal`."""
    return _read(path)[0]


def _read(path: Path, out: str = "") -> tuple[list[Entry], int]:
    """The entries, and the number of bytes of whole lines."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")[:-1]
    if not lines:
        # A header that was being written, or an empty file.
        if data and not b'{"review_journal":'.startswith(data[:18]):
            raise LabelError(f"{path}: is no journal of `quorum review`; name another file with --out")
        return [], 0
    _check_header(path, lines[0], out)
    return _entries(path, lines[1:]), whole


def _check_header(path: Path, line: bytes, out: str) -> None:
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.DecodeError as error:
        raise LabelError(
            f"{path}: is no journal of `quorum review` ({error}); name another file with --out"
        ) from error
    if header.review_journal > SCHEMA_VERSION:
        raise LabelError(
            f"{path}: version {header.review_journal} of the journal, this quorum reads up to "
            f"{SCHEMA_VERSION}; upgrade it"
        )
    if out and header.out and header.out != out:
        raise LabelError(
            f"{path}: is the journal of {header.out}, not of {out}; name a file with another stem with --out"
        )


def _entries(path: Path, lines: Sequence[bytes]) -> list[Entry]:
    decoder = msgspec.json.Decoder(Entry)
    entries = []
    for number, line in enumerate(lines, start=2):
        try:
            entries.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LabelError(f"{path}, line {number}: {error}; correct or remove that line") from error
    return entries
