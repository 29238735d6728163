# SPDX-License-Identifier: Apache-2.0
"""Lines of a stream of bytes, with the offset of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from quorum.bulk.inputs.records import ListingsError

_BLOCK = 1 << 16
_DAMAGE = "\ufffd".encode()
LONGEST_LINE = 64 << 20
"""Bytes; what is longer is no line of a table."""


class Lines:
    """Iterates once over lines with their ends: LF, CR LF or CR.

    It stops at no other character, as :meth:`str.splitlines` does. Memory is bounded by the longest line.

    Attributes:
        is_suspicious: Whether a NUL byte, or damage of another encoding, was seen so far.
        encoding: Encoding that the stream was decoded from to UTF-8, with U+FFFD for what is none of it; ""
            for a stream as it is.
    """

    def __init__(self, file: BinaryIO, name: str, encoding: str = "") -> None:
        """Start where ``file`` is; ``name`` is for messages."""
        self._file = file
        self._name = name
        self.encoding = encoding
        self.is_suspicious = False
        self._lines = self._split()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def _split(self) -> Iterator[bytes]:
        rest = b""
        # More and more of a long line, which is then not copied once for each block.
        while block := self._file.read(max(_BLOCK, len(rest))):
            rest += block
            if b"\0" in block or (self.encoding and _DAMAGE in rest):
                self.is_suspicious = True
            lines = rest.splitlines(keepends=True)
            # The line may go on; a CR may be half of CR LF.
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            if len(rest) > LONGEST_LINE:
                raise ListingsError(
                    f"{self._name}: a line is longer than {LONGEST_LINE >> 20} MiB, which is no row of a "
                    "table; is it of another format?"
                )
            yield from lines
        if rest:
            yield rest

    def flaw_of(self, text: str) -> str:
        """What is wrong with a text of a suspicious stream; "" for nothing."""
        if "\0" in text:
            return "holds a NUL character; remove it"
        if self.encoding and "\ufffd" in text:
            return f"holds bytes that are no {self.encoding}; save it anew"
        return ""
