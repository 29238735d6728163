# SPDX-License-Identifier: Apache-2.0
"""The ledger of a bulk job: which rows have an outcome, which parts are written, what is left.

A job is a folder::

    job.json                what the job is of; written once
    weights.json            versions of the weights that answered, by channel
    outputs.json            whether the outputs are complete, and hashes of what this job wrote
    lock                    held by the process that works on the job
    parts/000007.journal    outcomes of a part, a line each, only ever appended
    parts/000007.*          outputs of the part, until they are joined
    parts/000007.journal.gz all outcomes of a part that is committed
    parts/000007.json       the part is committed: its numbers

Every outcome is in its journal, with the operating system, before :meth:`Ledger.append` returns, so a killed
process loses none; the disk has it after about a second. A part is committed by writing its outputs, then its
packed journal, then its record, each by rename, and at last removing its journal: each step may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.ledger.entry import Entry
from quorum.bulk.ledger.spec import JobSpec, Part
from quorum.bulk.ledger.tally import Counts
from quorum.bulk.listings import Listing


@dataclass(frozen=True, slots=True)
class Pending:
    """A part that is not committed, or has failed rows to ask again.

    Attributes:
        part: The part, as the scan has it.
        entries: Row -> its outcome, of rows that need not be asked again.
    """

    part: Part
    entries: Mapping[int, Entry]


class Ledger:
    """The ledger of one job, open in one process; a context manager.

    It is not safe for several threads. One process may append to several parts in turn.
    """

    @staticmethod
    def stored(folder: Path) -> dict[str, Any] | None:
        """What :meth:`JobSpec.to_json` of the job in a folder says; None: there is no job.

        ``["input"]`` is the JSON of its scan, so that the input need not be scanned again.

        Raises:
            LedgerError: The folder holds something else, or a job of a later release.
        """
        raise NotImplementedError

    @classmethod
    def begin(
        cls,
        folder: Path,
        spec: JobSpec,
        *,
        accept_new_weights: bool = False,
        force: bool = False,
        note: Note = ignore,
    ) -> Ledger:
        """Begin the job, or go on with it; nothing else may have it open.

        Args:
            folder: Folder of the job, made if needed.
            spec: What it is of.
            accept_new_weights: Go on where other weights answer than before; each row says its version.
            force: Replace output files that are not of this job, at the end; folders are never replaced.
            note: Called with remarks.

        Raises:
            JobLocked: Another process works on it.
            NewWeights: ``spec.weights_version`` is not the version that answered so far.
            LedgerError: The folder has another job; the message says what differs.
            StorageFailed: It cannot be written.
            OutputError: An output exists that is not of this job, or has no room for a column.
        """
        raise NotImplementedError

    @property
    def counts(self) -> Counts:
        """Where the job stands; cheap enough to ask for after each row."""
        raise NotImplementedError

    def pending(self, retry_failed: bool = False) -> Iterator[Pending]:
        """The parts to work on, in order, read as they are asked for.

        Args:
            retry_failed: Leave failed rows out of ``entries``, and yield committed parts that have some.
        """
        raise NotImplementedError

    def append(self, part_number: int, entry: Entry) -> None:
        """Write an outcome; a later one of the same row replaces an earlier one.

        Raises:
            NewWeights: Other weights answered, and that was not accepted; nothing was written.
            StorageFailed: It cannot be written; it is not in the journal, and may be appended again.
        """
        raise NotImplementedError

    def commit(self, part_number: int, listings: Iterable[tuple[int, Listing | Any]]) -> None:
        """Write the outputs of a part whose rows all have outcomes, and drop it from memory.

        Args:
            part_number: Number of the part.
            listings: Its rows in order, each with its index in the whole input: the listing, or the
                ``BadRow`` that it is.

        Raises:
            LedgerError: A row has no outcome, or one of another product; or rows are missing.
            OutputError: A part file is there that is not of this job.
            StorageFailed: It cannot be written; the journal is kept.
        """
        raise NotImplementedError

    def finish(self) -> tuple[str, ...]:
        """Join the parts into outputs that are one file each; with that the job is complete.

        A complete job is left as it is.

        Returns:
            Names of the outputs that exist now; dead letters only where there are some.

        Raises:
            LedgerError: Parts are not committed.
            OutputError: An output is there that is not of this job.
            StorageFailed: It cannot be written; the parts are kept.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Have every outcome on the disk."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the journals, and let others have the job."""
        raise NotImplementedError

    def __enter__(self) -> Ledger:
        """Return the ledger."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
