# SPDX-License-Identifier: Apache-2.0
"""Count in shared memory: each process of a server adds to numbers of its own, and readers add them up.

A file holds numbers (FP64), and says at its beginning which series of metrics each of them counts for. A
process locks a file while it lives, so it alone writes there, and later the next process of a step continues
with the numbers. So adding takes no lock and no message, and a step that is reloaded or killed loses nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from quorum.serving.families import Family
from quorum.serving.shared_file import COUNTS, SHARED_MEMORY, own_server

logger = logging.getLogger(__name__)

Series = tuple[str, tuple[str, ...]]
"""Name of a family (of a part of a histogram), and the values of its labels."""
Cell = tuple[Series, ...]
"""The series that one number counts for."""
_MAGIC = b"qcounts1"
_START = len(_MAGIC) + 8
_MOST_FILES = 256
SUM = "sum"
"""Last label value of a histogram's sum; those of its buckets are their upper bounds."""


class Layout:
    """Collects what a step counts; the place of each number is its position."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def add(self, *series: Series) -> int:
        """Add a number that counts for these series; returns its place."""
        return self.add_all([series])

    def add_all(self, cells: Sequence[Cell]) -> int:
        """Add numbers, one after the other; returns the place of the first."""
        self.cells.extend(cells)
        return len(self.cells) - len(cells)

    def histogram(self, family: Family, labels: tuple[str, ...], bounds: Sequence[float]) -> int:
        """Add the numbers of a histogram: one per bucket, one beyond the last bound, and their sum."""
        names = [*(f"{bound:g}" for bound in bounds), "+Inf", SUM]
        return self.add_all([((family.name, (*labels, name)),) for name in names])


class Counters:
    """The numbers of this process: ``numbers[place] += 1``. Not for several threads at a time.

    Where shared memory cannot be had they are counted for nobody: a step does not fail for that.
    """

    def __init__(self, step: str, layout: Layout, server: str | None = None) -> None:
        self._handle: int | None = None
        header = msgspec.json.encode(layout.cells)
        header += b" " * (-len(header) % 8)
        size = _START + len(header) + 8 * len(layout.cells)
        shape = hashlib.sha256(header).hexdigest()[:12]
        try:
            self._handle = _own_file(f"{server or own_server()}_{COUNTS}_{step}_{shape}", size)
            shared = memoryview(mmap.mmap(self._handle, size))
        except OSError as error:
            logger.warning("%s: its metrics are lost, shared memory cannot be used: %s", step, error)
            shared = memoryview(bytearray(size))
        shared[8:_START] = len(header).to_bytes(8, "little")
        shared[_START : _START + len(header)] = header
        # Last: a reader takes no file without it.
        shared[:8] = _MAGIC
        self.numbers = shared[_START + len(header) :].cast("d")

    def close(self) -> None:
        """Let another process continue with the numbers."""
        if self._handle is not None:
            # The map keeps the file open, and with it the lock.
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._handle = None


def _own_file(name: str, size: int) -> int:
    """Open and lock the first file of that name that no process has; raises OSError."""
    for number in range(_MOST_FILES):
        path = SHARED_MEMORY / f"{name}_{number}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to another user; remove it")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A write to memory that is not there would end the process.
            os.posix_fallocate(handle, 0, size)
        except BlockingIOError:
            os.close(handle)
        except BaseException:
            os.close(handle)
            raise
        else:
            return handle
    raise OSError(f"{_MOST_FILES} processes count at {name}")


def read_counters(server: str) -> dict[Series, float]:
    """What all processes of a server have counted so far, those that are gone included."""
    totals: dict[Series, float] = defaultdict(float)
    for path in SHARED_MEMORY.glob(f"{server}_{COUNTS}_*"):
        # A file that has just been made, or is being removed, has nothing to add.
        with suppress(OSError, ValueError):
            for cell, number in _read(path):
                for series in cell:
                    totals[series] += number
    return dict(totals)


def _read(path: Path) -> Iterable[tuple[Cell, float]]:
    data = path.read_bytes()
    length = int.from_bytes(data[len(_MAGIC) : _START], "little")
    if not data.startswith(_MAGIC):
        return ()
    cells = msgspec.json.decode(data[_START : _START + length], type=list[Cell])
    return zip(cells, memoryview(data)[_START + length :].cast("d"), strict=True)
