# SPDX-License-Identifier: Apache-2.0
"""Find ids that several rows have, in bounded memory."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np

_PENDING = 1 << 14
_AT_ONCE = 1 << 18


class Repeated(NamedTuple):
    """Ids that several rows have.

    Attributes:
        ids: Their number.
        rows: The first rows of a few of them, by index: of each the first and the second.
    """

    ids: int
    rows: tuple[tuple[int, int], ...]


class Ids:
    """The ids of rows as numbers of 64 bits, in a temporary file without a name; 16 bytes a row."""

    def __init__(self) -> None:
        # Closed when it is collected; it has no name that could be left behind.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._pending: list[tuple[int, int]] = []

    def add(self, id_: str, row: int) -> None:
        """Note the id of a row."""
        self._pending.append((hash(id_) & 0xFFFF_FFFF_FFFF_FFFF, row))
        if len(self._pending) >= _PENDING:
            self._flush()

    def mark(self) -> int:
        """For :meth:`forget`."""
        self._flush()
        return self._file.tell()

    def forget(self, mark: int) -> None:
        """Drop what was added since the mark."""
        self._pending.clear()
        self._file.truncate(mark)
        self._file.seek(mark)

    def repeated(self, most: int = 3) -> Repeated:
        """The ids that were added more than once, ``most`` of them with their rows."""
        self._flush()
        total = self._file.tell() // 16
        count, found = 0, list[tuple[int, int]]()
        slices = total // _AT_ONCE + 1
        for number in range(slices):
            self._file.seek(0)
            kept = []
            while block := self._file.read(16 * _AT_ONCE // 4):
                pairs = np.frombuffer(block, np.uint64).reshape(-1, 2)
                kept.append(pairs[pairs[:, 0] % np.uint64(slices) == number])
            if not kept:
                continue
            pairs = np.concatenate(kept)
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            same = pairs[1:, 0] == pairs[:-1, 0]
            starts = np.flatnonzero(same & ~np.concatenate(([False], same[:-1])))
            count += len(starts)
            found += [(int(pairs[at, 1]), int(pairs[at + 1, 1])) for at in starts[:most]]
        self._file.seek(total * 16)
        return Repeated(count, tuple(sorted(found)[:most]))

    def _flush(self) -> None:
        self._file.write(np.array(self._pending, np.uint64).tobytes())
        self._pending.clear()
