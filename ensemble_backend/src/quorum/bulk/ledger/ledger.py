# SPDX-License-Identifier: Apache-2.0
"""The ledger of a bulk job: which rows have an outcome, which parts are written, what is left.

A job is a folder::

    job.json                what the job is of; written once
    weights.json            versions of the weights that answered, by channel
    written.jsonl           hashes of the outputs that it wrote, which alone it may replace
    complete.json           every output is in its place
    lock                    held by the process that works on the job
    input/                  standard input, if that is read
    nodes/000007.*.journal  outcomes that nodes of a cluster have found, until they are taken over
    parts/000007.journal    outcomes of a part, a line each, only ever appended
    parts/000007.answers.*  outputs of the part that wait to be joined, as do those of votes and dead letters
    parts/000007.journal.gz all outcomes of a part that is committed
    parts/000007.json       the part is committed: its numbers

Every outcome is in its journal, with the operating system, before :meth:`Ledger.append` returns, so a killed
process loses none; the disk has it after about a second. A part is committed by writing its outputs, then its
packed journal, then its record, each by rename, and at last removing its journal: each step may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Part
from quorum.bulk.ledger.entry import Entry
from quorum.bulk.ledger.errors import LedgerError, storing
from quorum.bulk.ledger.folder import JobFolder
from quorum.bulk.ledger.journal import Journal, header_of, pack, read_journal
from quorum.bulk.ledger.matching import matched
from quorum.bulk.ledger.spec import JobSpec
from quorum.bulk.ledger.tally import Counts, Tally
from quorum.bulk.ledger.weights import WeightsSeen
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.owned import Owned
from quorum.bulk.outputs.targets import Kind
from quorum.bulk.outputs.writer import Layout, Writer

SYNC_S = 1.0
"""Seconds after which an outcome is on the disk, while others follow."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A part that is not committed, or has failed rows to ask again.

    Attributes:
        part: The part, as the scan has it.
        entries: Row -> its outcome, of rows that need not be asked again.
        bad_counted: Whether :attr:`Ledger.counts` has its bad rows.
    """

    part: Part
    entries: Mapping[int, Entry]
    bad_counted: bool = False


@dataclass(slots=True)
class _Open:
    """A part that is worked on: its outcomes, the lines of those that were appended, and its journal."""

    entries: dict[int, Entry]
    end: int
    lines: dict[int, bytes] = field(default_factory=dict)
    journal: Journal | None = None


class _Record(msgspec.Struct, frozen=True):
    """Says that a part is committed: its counts, its outputs that wait to be joined, and those in folders."""

    tally: Tally
    waiting: list[str] = field(default_factory=list)
    placed: list[Kind] = field(default_factory=list)


class Ledger:
    """The ledger of one job, open in one process; a context manager.

    It is not safe for several threads. A process may append to several parts in turn; their outcomes are in
    memory until they are committed, or the ledger is closed.
    """

    def __init__(
        self,
        folder: JobFolder,
        job: str,
        spec: JobSpec,
        writer: Writer,
        weights: WeightsSeen,
        lock: ExitStack,
    ) -> None:
        """Use :meth:`begin`."""
        self._folder, self._job, self._writer, self._weights, self._lock = folder, job, writer, weights, lock
        self._parts: dict[int, Part] = {part.number: part for part in spec.scan.parts}
        self._rows = sum(part.rows for part in spec.scan.parts)
        self._open: dict[int, _Open] = {}
        self._records: dict[int, _Record] = {}
        self._committed: set[int] = set()
        # Parts whose outcomes are in the tally, and bad rows of a part in it.
        self._counted: set[int] = set()
        self._counted_bad: dict[int, int] = {}
        self._tally = Tally()
        self._synced_at = time.monotonic()

    @staticmethod
    def stored(folder: Path) -> dict[str, Any] | None:
        """What :meth:`JobSpec.to_json` of the job in a folder says; None: there is no job.

        ``["input"]`` is the JSON of its scan, so that the input need not be scanned again.

        Raises:
            LedgerError: The folder holds something else, or a job of another release.
        """
        return JobFolder(folder).stored()

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
            LedgerError: The folder has another job; the message says what differs.
            StorageFailed: It cannot be written.
            OutputError: An output exists that is not of this job, or has no room for a column.
            VotesError: pyarrow is not installed.
        """
        files = JobFolder(folder)
        with storing(folder), ExitStack() as stack:
            stack.enter_context(files.locked())
            stack.callback(files.discard_untouched)
            job, begun = files.begin(spec)
            weights = WeightsSeen(files, accept_new=accept_new_weights, note=note)
            layout = Layout(spec.scan.columns, spec.attributes, spec.catalogue)
            writer = Writer(spec.outputs, layout, files.parts, Owned(files.written), force=force)
            writer.check(begun=begun)
            if not begun:
                files.write_manifest(spec)
            files.drop(files.copies(), spec.scan.sources)
            ledger = cls(files, job, spec, writer, weights, stack)
            ledger._load(note)
            ledger._lock = stack.pop_all()
        return ledger

    @property
    def counts(self) -> Counts:
        """Where the job stands; cheap enough to ask for after each row."""
        return Counts(self._rows, len(self._parts), len(self._committed), self._tally)

    def check_weights(self, channel: str, version: int) -> None:
        """Refuse weights that answer now, by NewWeights, as :meth:`append` would their first answer."""
        self._weights.check(channel, version)

    def pending(self, retry_failed: bool = False) -> Iterator[Pending]:
        """The parts to work on, in order, read as they are asked for.

        Args:
            retry_failed: Leave failed rows, and those that no member answered, out of ``entries``, and yield
                committed parts that have some.

        Raises:
            LedgerError: A journal is damaged, or of another job.
        """
        for number, part in self._parts.items():
            retried = retry_failed and number in self._records and self._records[number].tally.retriable > 0
            if number in self._committed and not retried:
                continue
            entries = self._opened(number).entries.items()
            if number in self._committed:
                del self._open[number]  # What is only looked at takes no memory until it changes.
            kept = {row: entry for row, entry in entries if not (retry_failed and entry.is_retriable)}
            yield Pending(part, kept, bad_counted=number in self._counted_bad)

    def has_rows_to_ask(self, retry_failed: bool = False) -> bool:
        """Whether a row has no outcome, or one that ``retry_failed`` asks again; no part is read for it.

        True too where rows of a part that was never committed are bad, which is known once they are read.
        """
        for number, part in self._parts.items():
            record, opened = self._records.get(number), self._open.get(number)
            if opened is not None:
                known = len(opened.entries) + (record.tally.bad if record else 0)
                failed = any(entry.is_retriable for entry in opened.entries.values())
            elif record is not None and (number in self._committed or self._folder.packed(number).exists()):
                known, failed = part.rows, record.tally.retriable > 0
            else:
                return True
            if known < part.rows or (retry_failed and failed):
                return True
        return False

    def append(self, part_number: int, entry: Entry) -> None:
        """Write an outcome; a later one of the same row replaces an earlier one.

        Raises:
            NewWeights: Other weights answered, and that was not accepted; nothing was written.
            StorageFailed: It cannot be written; it is not in the journal, and may be appended again.
        """
        opened, part = self._opened(part_number), self._parts[part_number]
        if not part.first <= entry.row < part.first + part.rows:
            raise LedgerError(f"row {entry.row} is not in part {part_number}")
        path = self._folder.journal(part_number)
        with storing(path):
            if entry.answer is not None:
                self._weights.add(entry.answer.channel, entry.answer.weights_version)
            if opened.journal is None:
                self._uncommit(part_number)
                opened.journal = Journal(path, header_of(self._job, part), opened.end)
            opened.journal.append(line := entry.to_line())
            opened.lines[entry.row] = line
            if (before := opened.entries.get(entry.row)) is not None:
                self._tally.add(before, -1)
            opened.entries[entry.row] = entry
            self._tally.add(entry)
            if time.monotonic() - self._synced_at >= SYNC_S:
                self.sync()

    def commit(self, part_number: int, listings: Iterable[tuple[int, Listing | BadRow]]) -> None:
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
        opened, part = self._opened(part_number), self._parts[part_number]
        outcomes, bad = matched(part, opened.entries, listings)
        ordered = [opened.entries[row] for row in sorted(opened.entries)]
        tally = Tally(bad=len(bad))
        for entry in ordered:
            tally.add(entry)
        with storing(self._folder.path):
            if opened.journal is not None:
                opened.journal.sync()
            self._uncommit(part_number)
            record = _Record(tally, *self._writer.write_part(part_number, outcomes, bad))
            lines = (opened.lines.get(entry.row) or entry.to_line() for entry in ordered)
            pack(self._folder.packed(part_number), header_of(self._job, part), lines)
            self._folder.write(self._folder.record(part_number), msgspec.to_builtins(record))
            if opened.journal is not None:
                opened.journal.close()
                opened.journal = None
            self._folder.journal(part_number).unlink(missing_ok=True)
        self._count_bad(part_number, len(bad))
        self._records[part_number] = record
        self._committed.add(part_number)
        del self._open[part_number]

    def finish(self) -> tuple[str, ...]:
        """Join the parts into outputs that are one file each; with that the job is complete.

        A complete job is left as it is. Where no row can be asked again, the parts that were joined are
        removed.

        Returns:
            Names of the outputs; dead letters only where there are some.

        Raises:
            LedgerError: Parts are not committed.
            OutputError: An output is there that is not of this job.
            StorageFailed: It cannot be written; the parts are kept.
        """
        if left := len(self._parts) - len(self._committed):
            raise LedgerError(
                f"{self._folder.path}: {left} of {len(self._parts)} parts are not done; run the same command "
                "again to go on"
            )
        with storing(self._folder.path):
            if not self._folder.complete.exists():
                self._writer.join((number, self._records[number].waiting) for number in self._parts)
                self._folder.write(self._folder.complete, self._tally.to_json())
            if not self._tally.retriable:
                for number in self._parts:
                    for name in self._records[number].waiting:
                        (self._folder.parts / name).unlink(missing_ok=True)
        return self._writer.names(has_bad=self._tally.bad > 0)

    def sync(self) -> None:
        """Have every outcome on the disk; raises StorageFailed if that fails."""
        with storing(self._folder.path):
            for opened in self._open.values():
                if opened.journal is not None:
                    opened.journal.sync()
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Close the journals, and let others have the job; one that nothing was asked of is removed."""
        for opened in self._open.values():
            if opened.journal is not None:
                with suppress(OSError):
                    opened.journal.sync()
                opened.journal.close()
        self._open.clear()
        self._lock.close()

    def __enter__(self) -> Ledger:
        """Return the ledger."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _load(self, note: Note) -> None:
        """Find out what is done."""
        present = {path.name for path in self._folder.parts.iterdir()}
        for number in self._parts:
            path = self._folder.record(number)
            if path.name in present:
                self._records[number] = self._folder.read_as(path, _Record)
        has_bad = any(record.tally.bad for record in self._records.values())
        complete = self._folder.complete.exists()
        lost = self._writer.missing_parts({number: record.placed for number, record in self._records.items()})
        gone = self._writer.missing(has_bad=has_bad) if complete else []
        if complete and (gone or lost):
            note(f"{gone[0] if gone else 'a part file'} is gone; it is written again from the journals")
            self._folder.mark_incomplete()
            complete = False
        for number, record in self._records.items():
            journal = self._folder.journal(number).name in present
            waits = complete or all(name in present for name in record.waiting)
            if waits and not journal and number not in lost:
                self._committed.add(number)
                self._counted.add(number)
                self._tally.add_all(record.tally)
                self._counted_bad[number] = record.tally.bad
        for number in self._parts:
            if number not in self._committed and self._folder.journal(number).name in present:
                self._opened(number)

    def _opened(self, number: int) -> _Open:
        """A part with its outcomes, read if it is not open."""
        if (opened := self._open.get(number)) is not None:
            return opened
        if number not in self._parts:
            raise LedgerError(f"{self._folder.path}: the job has no part {number}")
        header = header_of(self._job, self._parts[number])
        entries: dict[int, Entry] = {}
        end = 0
        with storing(self._folder.path):
            if (packed := self._folder.packed(number)).exists():
                entries, _ = read_journal(packed, header)
            if (path := self._folder.journal(number)).exists():
                later, end = read_journal(path, header)
                entries |= later
        if number not in self._counted:
            self._counted.add(number)
            for entry in entries.values():
                self._tally.add(entry)
        self._open[number] = opened = _Open(entries, end)
        return opened

    def _uncommit(self, number: int) -> None:
        """Have it on the disk that the outputs are not complete, before a part changes."""
        self._folder.mark_incomplete()
        self._committed.discard(number)

    def _count_bad(self, number: int, bad: int) -> None:
        """Count the bad rows of a part; those that it counted before are not bad twice."""
        self._tally.bad += bad - self._counted_bad.get(number, 0)
        self._counted_bad[number] = bad
