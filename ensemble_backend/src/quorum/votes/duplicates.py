# SPDX-License-Identifier: Apache-2.0
"""Find duplicate cells among more than fit into memory: digests on disk, sorted in parts."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from quorum.votes.table import CodedVotes

_PARTITION_BITS = 6
_SPOOL_BYTES = 1 << 17
_ROW = np.dtype([("digest", np.uint64), ("row", np.int64)])


class DuplicateCheck:
    """Stores 16 bytes per cell: 8 MB of them in memory, the rest in the temporary directory.

    Two cells may share a digest of 64 bits (once in 400,000 tables of ten million cells), so the caller
    compares the texts of the returned rows.
    """

    def __init__(self) -> None:
        """Open the partitions; use as a context manager, which removes them."""
        self._stack = ExitStack()
        self._files = [
            self._stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
            for _ in range(1 << _PARTITION_BITS)
        ]
        self._attributes: dict[str, int] = {}

    def __enter__(self) -> DuplicateCheck:
        """Return the check."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the files."""
        self._stack.close()

    def add(self, votes: CodedVotes, start: int) -> None:
        """Add the cells of these votes, from row ``start`` on."""
        attributes = [attribute for _, attribute in votes.group_names]
        for name in set(attributes) - self._attributes.keys():
            self._attributes[name] = digest(name, b"attribute")
        salt = np.array([self._attributes[name] for name in attributes], np.uint64)
        products = np.array([digest(name, b"product") for name in votes.product_names], np.uint64)
        digests = products[votes.products] + salt[votes.groups]
        rows = np.empty(len(digests), _ROW)
        rows["digest"], rows["row"] = digests, np.arange(start, start + len(digests))
        partition = (digests >> np.uint64(64 - _PARTITION_BITS)).astype(np.int64)
        rows = rows[np.argsort(partition, kind="stable")]
        ends = np.cumsum(np.bincount(partition, minlength=len(self._files)))
        for file, part in zip(self._files, np.split(rows, ends[:-1]), strict=True):
            file.write(part.tobytes())

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Rows (earlier, later) that probably hold the same cell; includes all duplicates."""
        for rows in self._equal():
            yield from itertools.combinations(rows, 2)

    def repeats(self) -> Iterator[tuple[int, int]]:
        """Each row that probably holds the cell of an earlier one, after the first of these."""
        for first, *others in self._equal():
            yield from ((first, later) for later in others)

    def _equal(self) -> Iterator[list[int]]:
        """Rows of equal digests, ascending."""
        for file in self._files:
            file.seek(0)
            rows = np.frombuffer(file.read(), _ROW)
            rows = rows[np.argsort(rows["digest"], kind="stable")]
            _, first, count = np.unique(rows["digest"], return_index=True, return_counts=True)
            for i in np.flatnonzero(count > 1).tolist():
                yield rows["row"][first[i] : first[i] + count[i]].tolist()


def digest(text: str, kind: bytes) -> int:
    """64 bits that stand for a text of a kind."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=kind).digest(), "little")
