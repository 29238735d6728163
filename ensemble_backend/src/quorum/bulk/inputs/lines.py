# SPDX-License-Identifier: Apache-2.0
"""Lines of a stream of bytes, with the offset of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from quorum.bulk.inputs.records import ListingsError

_BLOCK = 1 << 18
LONGEST_LINE = 64 << 20
"""Bytes; what is longer is no line of a table."""


class Lines:
    """Iterates once over lines with their ends: LF, CR LF or CR.

    Memory is bounded by the longest line.

    Attributes:
        holds_nul: Whether a NUL byte was seen so far.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Start where ``file`` is; ``name`` is for messages."""
        self._file = file
        self._name = name
        self.holds_nul = False
        self._lines = self._split()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def _split(self) -> Iterator[bytes]:
        rest = b""
        while block := self._file.read(_BLOCK):
            self.holds_nul = self.holds_nul or b"\0" in block
            lines = (rest + block).splitlines(keepends=True)
            # The line may go on; a CR may be half of CR LF.
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            if len(rest) > LONGEST_LINE:
                raise ListingsError(
                    f"{self._name}: a line is longer than {LONGEST_LINE >> 20} MiB, which is no row of a "
                    "table; is it of another format? Name it with --input-format"
                )
            yield from lines
        if rest:
            yield rest
