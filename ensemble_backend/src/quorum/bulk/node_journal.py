# SPDX-License-Identifier: Apache-2.0
"""Journals of the nodes of a cluster: outcomes that the driver has not yet taken into the ledger.

Each attempt at a part writes a file of its own, in the folder ``nodes`` of the job, on a file system that all
nodes share. So no lock is needed: a node that is thought dead and still writes disturbs no other, and what a
killed one wrote is read by the next attempt.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from quorum.bulk.callbacks import Note
from quorum.bulk.ledger import Entry, Ledger, NewWeights
from quorum.bulk.ledger.errors import storing
from quorum.bulk.ledger.folder import JobFolder
from quorum.bulk.ledger.ledger import SYNC_S


class NodeJournal:
    """The outcomes of one attempt at a part; a context manager.

    A line is with the operating system when :meth:`append` returns, and on the disk about a second later.

    Args:
        job: Folder of the job.
        part: Number of the part.

    Raises:
        StorageFailed: It cannot be written, now or later.
    """

    def __init__(self, job: Path, part: int) -> None:
        self._path = JobFolder(job).nodes / f"{part:06}.{uuid.uuid4().hex[:12]}.journal"
        with storing(self._path):
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._path.open("xb")
        self._synced, self._is_synced = time.monotonic(), True

    @property
    def name(self) -> str:
        """Name of its file."""
        return self._path.name

    def append(self, entry: Entry) -> None:
        """Write an outcome."""
        self._is_synced = False
        with storing(self._path):
            self._file.write(entry.to_line())
            self._file.flush()
        if time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Have every outcome on the disk."""
        if not self._is_synced:
            with storing(self._path):
                os.fsync(self._file.fileno())
            self._is_synced = True
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have everything on the disk, where other nodes see it, and close."""
        try:
            self.sync()
        finally:
            with storing(self._path):
                self._file.close()


def node_entries(job: Path, part: int) -> Iterator[Entry]:
    """The outcomes in all journals of a part; a row may come twice, where two nodes asked it.

    A line that a killed node left half written is skipped: its row is asked again.
    """
    for path in sorted(JobFolder(job).nodes.glob(f"{part:06}.*.journal")):
        for line in path.read_bytes().splitlines():
            try:
                yield Entry.from_line(line)
            except ValueError:
                continue


def attempts(job: Path, part: int) -> int:
    """How often a part was begun by workers that have not reported: they work on it, or ended before."""
    return sum(1 for _ in JobFolder(job).nodes.glob(f"{part:06}.*.journal"))


def parts_left(job: Path) -> set[int]:
    """Numbers of the parts that have journals of nodes."""
    return {int(path.name.partition(".")[0]) for path in JobFolder(job).nodes.glob("*.journal")}


def take_over(job: Path, ledger: Ledger, note: Note, *, retry_failed: bool = False) -> None:
    """Put what nodes of an earlier run have found into the ledger: their driver was killed, or interrupted.

    Answers of other weights are left out, with a remark, unless the job accepts these: those that gave them
    were rolled back since.
    """
    left = parts_left(job)
    if not left:
        return
    for pending in ledger.pending(retry_failed):
        number = pending.part.number
        if number not in left:
            continue
        left.remove(number)
        refused: dict[int, NewWeights] = {}
        for entry in node_entries(job, number):
            if entry.row in pending.entries:
                continue
            try:
                ledger.append(number, entry)
            except NewWeights as error:
                refused[entry.row] = error
            else:
                refused.pop(entry.row, None)
        if refused:
            reason = next(iter(refused.values()))
            note(f"part {number}: answers that nodes have left are asked again ({len(refused)}): {reason}")
        drop_journals(job, number)
    for number in left:
        # Committed: a driver was killed before it had removed them.
        drop_journals(job, number)


def drop_journals(job: Path, part: int) -> None:
    """Remove the journals of a part, whose outcomes the ledger has."""
    for path in JobFolder(job).nodes.glob(f"{part:06}.*.journal"):
        path.unlink(missing_ok=True)


def drop_journal(job: Path, name: str) -> None:
    """Remove one journal, of an attempt that is over and whose outcomes the ledger has."""
    (JobFolder(job).nodes / name).unlink(missing_ok=True)


def written_s_ago(job: Path) -> float:
    """Seconds since a node last wrote to a journal that is left; infinite where none has an outcome."""
    newest = 0.0
    for path in JobFolder(job).nodes.glob("*.journal"):
        found = path.stat()
        if found.st_size:
            newest = max(newest, found.st_mtime)
    return time.time() - newest if newest else math.inf
