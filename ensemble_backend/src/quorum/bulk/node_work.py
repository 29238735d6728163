# SPDX-License-Identifier: Apache-2.0
"""What a node of a cluster does: ask about the rows of some parts, and keep the outcomes in its journals."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from quorum.bulk.callbacks import ignore
from quorum.bulk.inputs.scan import Part, Scan
from quorum.bulk.job import Job, client_of
from quorum.bulk.job_input import ListingOf
from quorum.bulk.ledger import Counts, Entry, Pending, Tally
from quorum.bulk.ledger.folder import JobFolder
from quorum.bulk.ledger.weights import check_seen
from quorum.bulk.node_journal import NodeJournal, attempts, node_entries
from quorum.bulk.options import ExtractOptions
from quorum_contract.errors import QuorumError

_PARTS = 4
# Ray gives the parts of a worker that ended to another, without an end.
_ATTEMPTS = 5
_SHARES_PER_NODE = 4


class NodeError(QuorumError, RuntimeError):
    """Nodes begin a part again and again, and none completes it; the message says what to do."""

    code = "NODE_WORK_FAILED"


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part with rows to ask.

    Attributes:
        number: Its number.
        left: Rows that the ledger has no outcome of, or a failed one that is asked again; None: all rows.
    """

    number: int
    left: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What every node needs to know of the job; it is sent to each once.

    Attributes:
        folder: Of the job, under the same path on every node.
        scan: The input, under the same paths or URLs on every node.
        listing_of: Makes listings of its rows.
        attributes: To ask for.
        options: Of the run.
        url: ``host:port`` of the servers, with commas; each node asks all of them.
        version: Version of the weights that answers as the run begins; None: nothing is to be asked.
        members: That vote in the job.
    """

    folder: Path
    scan: Scan
    listing_of: ListingOf
    attributes: tuple[str, ...]
    options: ExtractOptions
    url: str
    version: int | None
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What became of some parts.

    Attributes:
        complete: Parts whose rows all have an outcome, in the ledger or in a journal of a node.
        unfinished: Parts that were begun and are not complete -> name of the journal that is left of it.
        reason: Why the others have not: no server answered for as long as the patience lasts.
        error: What ended the work for good; the job ends with it.
    """

    complete: tuple[int, ...] = ()
    unfinished: Mapping[int, str] = field(default_factory=dict)
    reason: QuorumError | None = None
    error: Exception | None = None


def for_nodes(scan: Scan) -> Scan:
    """A scan whose files are found from any working folder: nodes have others than the driver."""
    return replace(
        scan,
        sources=tuple(
            source if "://" in source.url else replace(source, url=str(Path(source.url).resolve()))
            for source in scan.sources
        ),
    )


def shares(parts: Sequence[OpenPart], nodes: int) -> list[tuple[OpenPart, ...]]:
    """Divide parts into what a node takes at a time.

    A few parts together keep its requests in flight while one of them ends. They are fewer where a job is
    small, so that every node has some, and the last ones to finish are short.
    """
    each = max(1, min(_PARTS, len(parts) // (_SHARES_PER_NODE * nodes)))
    return [tuple(parts[at : at + each]) for at in range(0, len(parts), each)]


class NodeLedger:
    """What a job on one node sees as its ledger: some parts, and outcomes that go to journals of the node.

    Attributes:
        complete: Parts whose rows all have an outcome.
    """

    def __init__(self, settings: NodeSettings, parts: Iterable[OpenPart]) -> None:
        self._folder, self._rows = settings.folder, settings.scan.rows
        known: dict[int, Part] = {part.number: part for part in settings.scan.parts}
        self._parts = [(known[part.number], part.left) for part in parts]
        self._weights = _weights_of(settings)
        self._tally = Tally()
        self._files = ExitStack()
        self._journals: dict[int, NodeJournal] = {}
        self.complete: list[int] = []

    @property
    def counts(self) -> Counts:
        """What was done here."""
        return Counts(self._rows, len(self._parts), len(self.complete), self._tally)

    def pending(self, retry_failed: bool = False) -> Iterator[Pending]:
        """The parts, without the rows that an earlier attempt of this run has asked.

        Raises:
            NodeError: A part was begun too often.
        """
        del retry_failed
        for part, left in self._parts:
            if attempts(self._folder, part.number) >= _ATTEMPTS:
                raise NodeError(
                    f"part {part.number}, rows {part.first + 1} to {part.first + part.rows}, was begun"
                    f" {_ATTEMPTS} times in this run, and each worker ended before it was done: see the logs"
                    " of the nodes (memory?). What was answered is kept: run the same command again"
                )
            rows = range(part.first, part.first + part.rows)
            done = () if left is None else (row for row in rows if row not in left)
            entries = dict.fromkeys(done, _IN_LEDGER)
            entries |= {entry.row: entry for entry in node_entries(self._folder, part.number)}
            journal = NodeJournal(self._folder, part.number)
            self._journals[part.number] = self._files.enter_context(journal)
            yield Pending(part, entries)

    def append(self, part_number: int, entry: Entry) -> None:
        """Keep an outcome.

        Raises:
            NewWeights: Other weights answered than before, and the run does not accept that.
        """
        if entry.answer is not None and self._weights is not None:
            channel, version = entry.answer.channel, entry.answer.weights_version
            check_seen(self._weights, channel, version)
            self._weights.setdefault(channel, [version])
        self._journals[part_number].append(entry)
        self._tally.add(entry)

    def commit(self, part_number: int, listings: object) -> None:
        """Take note that a part is complete; the driver writes its outputs."""
        del listings
        self.complete.append(part_number)

    @property
    def unfinished(self) -> dict[int, str]:
        """Parts that were begun and are not complete -> name of their journal."""
        begun = self._journals.items()
        return {number: journal.name for number, journal in begun if number not in self.complete}

    def sync(self) -> None:
        """Have every outcome on the disk."""
        for journal in self._journals.values():
            journal.sync()

    def close(self) -> None:
        """Close the journals, so that the driver sees all of them."""
        self._files.close()


def _weights_of(settings: NodeSettings) -> dict[str, list[int]] | None:
    """Channel -> versions that may answer, as the driver has noted them; None: any may."""
    if settings.options.accept_new_weights:
        return None
    begun = {} if settings.version is None else {settings.options.asked_channel: [settings.version]}
    folder = JobFolder(settings.folder)
    return begun | (folder.read(folder.weights) or {})


# Stands for the outcome of a row that the ledger has: it is not asked, and nothing else is done with it.
_IN_LEDGER = Entry(-1, "", error=("IN_LEDGER", ""))


def work(settings: NodeSettings, parts: Sequence[OpenPart]) -> NodeReport:
    """Ask about the rows of some parts, until each has an outcome or the patience is over."""
    ledger = NodeLedger(settings, parts)
    try:
        try:
            reason = asyncio.run(_ask(settings, ledger))
        finally:
            ledger.close()
    except (QuorumError, OSError) as error:
        return NodeReport(error=error)
    return NodeReport(tuple(ledger.complete), ledger.unfinished, reason)


async def _ask(settings: NodeSettings, ledger: NodeLedger) -> QuorumError | None:
    client, options = client_of(settings.url, settings.options), settings.options
    scan, listing_of, attributes = settings.scan, settings.listing_of, settings.attributes
    job = Job(client, scan, listing_of, ledger, attributes, options, ignore, ignore, settings.members)
    return None if await job.run() else job.reason


class NodeWorker:
    """The work of a node as Ray Data calls it: each row of a batch is a pickled tuple of parts."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings

    def __call__(self, batch: dict[str, Sequence[bytes]]) -> dict[str, list[bytes]]:
        """Work on each tuple of parts; gives the pickled reports."""
        reports = [work(self._settings, pickle.loads(parts)) for parts in batch["parts"]]  # noqa: S301
        return {"report": [pickle.dumps(report) for report in reports]}
