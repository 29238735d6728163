# SPDX-License-Identifier: Apache-2.0
"""Detect the encoding of a file, and read any as UTF-8."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable
from typing import BinaryIO

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BYTES_OF_ASCII = ("ascii", "utf-8", "latin", "iso8859", "cp125", "cp437", "cp85", "koi8", "mac-")
_BLOCK = 1 << 18
FALLBACKS = ("cp1252", "latin-1")
"""What a text is taken for that is not in UTF-8; the second allows bytes that the first has no sign for."""
_SHARE_OF_NUL = 0.3


def guess(head: bytes) -> str:
    """The encoding by a byte order mark or, of UTF-16, by every other byte being 0; else "utf-8"."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    half = len(head) // 2
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[start::2], head[1 - start :: 2]
        # The first character is one of a header, or the bracket of an object.
        if half and not zeros[0] and zeros.count(0) > _SHARE_OF_NUL * half and not others.count(0):
            return encoding
    return "utf-8"


def settle(lines: Iterable[bytes]) -> str:
    """The encoding of a file that is not UTF-8 throughout: "utf-8", "cp1252" or "latin-1".

    It is UTF-8 with damaged rows if more lines hold characters of several bytes than bytes that UTF-8 does
    not allow; else one of Western Europe, which allow nearly every byte.
    """
    whole = damaged = 0
    latin = False
    for line in lines:
        if line.isascii():
            continue
        try:
            line.decode()
            whole += 1
        except UnicodeDecodeError:
            damaged += 1
            latin = latin or bool(set(line) & {0x81, 0x8D, 0x8F, 0x90, 0x9D})
    if whole > damaged:
        return "utf-8"
    return FALLBACKS[latin]


def is_read_as_bytes(encoding: str) -> bool:
    """Whether line ends, delimiters and quotes are the bytes of ASCII, and no part of other characters."""
    return codecs.lookup(encoding).name.startswith(_BYTES_OF_ASCII)


class Transcoded(io.RawIOBase):
    """A stream of another encoding as UTF-8; bytes that it does not allow become U+FFFD."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._rest = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 at the end."""
        while not self._rest:
            block = self._file.read(_BLOCK)
            # Half a surrogate pair, which UTF-16 may hold, has no UTF-8.
            text = self._decoder.decode(block, final=not block)
            self._rest = text.encode("utf-8", "replace")
            if not block:
                break
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        """Close the stream below too."""
        self._file.close()
        super().close()
