# SPDX-License-Identifier: Apache-2.0
"""Ask about every row of a job that has no outcome yet, part by part, and commit what is complete."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, cast

from quorum.bulk.callbacks import Note
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Scan
from quorum.bulk.job_input import SHOWN_BAD, ListingOf, check_refused, is_refused, refused_row
from quorum.bulk.ledger import Counts, Entry, LedgerError, Pending, StorageFailed
from quorum.bulk.listings import Listing
from quorum.bulk.options import ExtractOptions
from quorum.bulk.patience import Fate, NoVotes, Patience
from quorum.bulk.progress import OnProgress, Pace, progress_of
from quorum.bulk.spent import BudgetWatch
from quorum.server.exposure import client_key
from quorum_client import AsyncClient, Extraction, Item
from quorum_contract.errors import QuorumError

Listings = Sequence[tuple[int, Listing | BadRow]]
Results = AsyncGenerator["tuple[RowItem, Extraction | QuorumError]"]
_SHOW_S, _WATCH_S = 0.1, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowItem(Item):
    """A row as it is asked.

    Attributes:
        row: Its number in the job, from 0.
        part: Number of its part.
    """

    row: int
    part: int


@dataclass(slots=True)
class _OpenPart:
    """A part that is asked: its rows, how many have no outcome yet, how many are bad and not counted yet."""

    listings: list[tuple[int, Listing | BadRow]] = field(default_factory=list)
    left: int = 0
    bad: int = 0
    is_read: bool = False


def client_of(url: str, options: ExtractOptions) -> AsyncClient:
    """A client of the server, or of several with commas, by the options of a run."""
    return AsyncClient(
        url,
        channel=options.channel,
        timeout_s=options.timeout_s,
        canary_share=options.canary_share,
        key=client_key(),
    )


class OutcomeStore(Protocol):
    """Keeps outcomes of rows: the ledger of a job, or a node's share of one."""

    @property
    def counts(self) -> Counts:
        """See :attr:`quorum.bulk.ledger.Ledger.counts`."""

    def pending(self, retry_failed: bool = False) -> Iterator[Pending]:
        """See :meth:`quorum.bulk.ledger.Ledger.pending`."""

    def append(self, part_number: int, entry: Entry) -> None:
        """See :meth:`quorum.bulk.ledger.Ledger.append`."""

    def commit(self, part_number: int, listings: Listings) -> None:
        """See :meth:`quorum.bulk.ledger.Ledger.commit`."""

    def sync(self) -> None:
        """See :meth:`quorum.bulk.ledger.Ledger.sync`."""


class Job:
    """One run of a job, in one event loop.

    Args:
        client: Of the channel; it is closed at the end.
        scan: The input.
        listing_of: Makes listings of its rows.
        ledger: Keeps what is done.
        attributes: To ask for.
        options: Of the run.
        note: Takes remarks.
        progress: Takes the state.
        members: That vote in the job; answers of others are refused.

    Attributes:
        budgets: Notes when a member's budget is spent.
        patience: Knows why the server was unavailable.
        asked: Rows that got their outcome in this run.
    """

    def __init__(
        self,
        client: AsyncClient,
        scan: Scan,
        listing_of: ListingOf,
        ledger: OutcomeStore,
        attributes: Sequence[str],
        options: ExtractOptions,
        note: Note,
        progress: OnProgress,
        members: Sequence[str],
    ) -> None:
        self._client, self._scan, self._listing_of, self._ledger = client, scan, listing_of, ledger
        self._attributes, self._options, self._progress = attributes, options, progress
        self._members = set(members)
        self.asked = 0
        self.budgets = BudgetWatch(note)
        self.patience = Patience(options.patience_s, note, self._remind, options.timeout_s)
        self._limit = asyncio.Timeout(None)
        self._pace, self._shown = Pace(), 0.0
        self._parts: dict[int, _OpenPart] = {}
        self._refused: list[BadRow] = []
        self._rows = self._new_rows()
        self._again: deque[RowItem] = deque()
        self._alone: deque[RowItem] = deque()
        self._holds = False
        self._storage: StorageFailed | None = None

    @property
    def reason(self) -> QuorumError | None:
        """Why the server was unavailable; None: it was not."""
        return self.patience.reason

    async def run(self) -> bool:
        """Ask until every row has an outcome; whether that is so, False: the patience is over.

        Raises:
            TooManyBad: More rows are bad than the run allows.
            NewWeights: Other weights answer than before, and the run does not accept that.
            LedgerError: Other members answer than those of the job.
            StorageFailed: Something cannot be written.
        """
        self._show(force=True)
        watch = asyncio.create_task(self._watch())
        try:
            async with self._client, self._limit:
                while not await self._round():
                    if self._holds:
                        await asyncio.sleep(self.patience.next_pause_s())
                        await self._wait_until_well()
        except TimeoutError:
            if self._storage is not None:
                raise self._storage from None
            return False
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            self._show(force=True)
        return True

    async def _watch(self) -> None:
        """Have what was answered on the disk, and show the state while the server is waited for."""
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                self._ledger.sync()
            except StorageFailed as error:
                self._storage = error
                # Ends the run now.
                self._limit.reschedule(0.0)
                return
            if self.patience.waits:
                self._show(force=True)

    async def _round(self) -> bool:
        """Ask what is to be asked; whether nothing is left. It ends early where the server is waited for."""
        self._holds = False
        rows, concurrency = self._feed(), self._options.concurrency
        if self._alone:
            # One at a time, so that what breaks the server breaks nothing else.
            rows, concurrency = self._feed_alone(), 1
        results = self._client.extract_as_completed(
            rows,
            concurrency=concurrency,
            priority=self._options.priority,
            # The limit of this run ends it before.
            away_s=math.inf,
            on_wait=self.patience.on_wait,
            lazy=self._options.lazy,
        )
        async with aclosing(cast("Results", results)) as outcomes:
            async for item, result in outcomes:
                self._check_members(result)
                self._take(item, result)
        return not (self._again or self._alone or self._holds or self._parts)

    async def _wait_until_well(self) -> None:
        """Where a connection broke, or the server hung, and nothing came since, wait until it is ready.

        Only so can be told whether a row ends the server: the client would send it at the moment it is back.
        """
        while self.patience.in_doubt:
            try:
                if await self._client.is_ready(self._options.asked_channel):
                    self.patience.well()
                    return
            except QuorumError:
                # It does not say: what the rows get has to tell.
                return
            await asyncio.sleep(self.patience.next_pause_s())

    def _feed(self) -> Iterator[RowItem]:
        """Rows to ask: those that are asked again first."""
        while not self._holds:
            item = self._again.popleft() if self._again else next(self._rows, None)
            if item is None:
                return
            yield item

    def _feed_alone(self) -> Iterator[RowItem]:
        while self._alone and not self._holds:
            yield self._alone.popleft()

    def _check_members(self, result: Extraction | QuorumError) -> None:
        """Refuse an answer of another deployment's server."""
        if isinstance(result, QuorumError):
            return
        # Every answer has a vote of each member, whether it was asked or not.
        for answer in result.answers[:1]:
            found = {vote.member for vote in answer.votes}
            if found != self._members:
                now, before = (", ".join(sorted(members)) for members in (found, self._members))
                raise LedgerError(
                    f"the server answers by the members {now}, the job is of {before}: it serves another "
                    "deployment. Name the right server by --url and run the same command again, or begin "
                    "another job, with other outputs"
                )

    def _new_rows(self) -> Iterator[RowItem]:
        """The rows without an outcome; parts are opened as they are reached."""
        with PartReader(self._scan) as reader:
            for pending in self._ledger.pending(self._options.retry_failed):
                yield from self._open(reader, pending)

    def _open(self, reader: PartReader, pending: Pending) -> Iterator[RowItem]:
        number, part = pending.part.number, _OpenPart()
        self._parts[number] = part
        for row in reader.read(pending.part):
            listing = row if isinstance(row, BadRow) else self._listing_of(row)
            part.listings.append((row.index, listing))
            if isinstance(listing, BadRow):
                part.bad += not pending.bad_counted
            elif row.index not in pending.entries:
                part.left += 1
                text, category, product = listing.text, listing.category, listing.product
                yield RowItem(text, self._attributes, category, product, row=row.index, part=number)
        part.is_read = True
        self._close(number)

    def _take(self, item: RowItem, result: Extraction | QuorumError) -> None:
        """Keep the outcome of a row, or ask it again."""
        entry = Entry.of(item.row, item.product_id or "", result)
        if entry.is_retriable:
            error = result if isinstance(result, QuorumError) else _no_votes(result)
            fate = self.patience.fate(item.row, error)
            if fate is not Fate.KEEP:
                self._holds = True
                (self._alone if fate is Fate.ALONE else self._again).append(item)
                return
        else:
            self.patience.answered(item.row)
        if isinstance(result, Extraction):
            self.budgets.add(item.row + 1, result)
        self._ledger.append(item.part, entry)
        if is_refused(entry):
            self._check_refused(entry)
        self.asked += 1
        self._pace.add()
        self._parts[item.part].left -= 1
        self._close(item.part)
        self._show()

    def _close(self, number: int) -> None:
        """Commit a part if all its rows have outcomes."""
        part = self._parts[number]
        if part.is_read and not part.left:
            self._ledger.commit(number, part.listings)
            del self._parts[number]

    def _check_refused(self, entry: Entry) -> None:
        """Refuse more bad rows than the run allows; this one was just refused by the server."""
        if len(self._refused) < SHOWN_BAD:
            self._refused.append(refused_row(self._scan, entry))
        check_refused(self._scan, self._options, self._ledger.counts.tally.refused, self._refused)

    def _remind(self, at: float | None) -> None:
        if self._limit.expired() or self._storage is not None:
            return
        loop = asyncio.get_running_loop()
        self._limit.reschedule(None if at is None else loop.time() + max(0.0, at - time.monotonic()))
        self._show(force=True)

    def _show(self, *, force: bool = False) -> None:
        """Report the state, some times a second."""
        now = time.monotonic()
        if not force and now - self._shown < _SHOW_S:
            return
        self._shown = now
        bad = sum(part.bad for part in self._parts.values())
        self._progress(progress_of(self._ledger.counts, self._pace, bad=bad, waits=self.patience.waits))


def _no_votes(answer: Extraction) -> NoVotes:
    """What is wrong with an answer that no member gave."""
    votes = {vote.member: vote.status.name for decision in answer.answers for vote in decision.votes}
    return NoVotes("no member answered: " + ", ".join(f"{name} {status}" for name, status in votes.items()))
