# SPDX-License-Identifier: Apache-2.0
"""Remember which files a job wrote, by their hashes, so that it replaces its own and no others."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from quorum.bulk.outputs.errors import OutputError
from quorum.files import write_all


class _Line(msgspec.Struct, frozen=True):
    name: str
    hash: str


class Owned:
    """Hashes of what a job has written, or was about to write, by output: a file of lines, only appended to.

    A hash is noted before the output appears, so that one which appeared just before a kill is known.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if it is there; a last line that was cut off is dropped.

        Raises:
            OSError: It cannot be read.
            OutputError: It is damaged.
        """
        self._path = path
        self._hashes: dict[str, set[str]] = {}
        self._end = 0
        if path.exists():
            for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    known = msgspec.json.decode(line, type=_Line)
                except msgspec.MsgspecError as error:
                    raise OutputError(
                        f"{path}, line {number}: damaged ({error}); move the outputs of the job away, and "
                        "remove this file"
                    ) from error
                self._hashes.setdefault(known.name, set()).add(known.hash)
                self._end += len(line)

    def has(self, name: str, digest: str | None) -> bool:
        """Whether an output with this content is of this job."""
        return digest in self._hashes.get(name, ())

    def note(self, name: str, digest: str) -> None:
        """Have it on the disk that this is of this job; raises OSError if that fails."""
        if self.has(name, digest):
            return
        line = msgspec.json.encode(_Line(name, digest)) + b"\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(handle, self._end)
            write_all(handle, line, self._end)
            os.fsync(handle)
        finally:
            os.close(handle)
        self._end += len(line)
        self._hashes.setdefault(name, set()).add(digest)
