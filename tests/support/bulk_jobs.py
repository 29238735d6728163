# SPDX-License-Identifier: Apache-2.0
"""Small bulk jobs without a server: every row has a fixed answer, and each time it is asked is noted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Part, Scan
from quorum.bulk.ledger import Entry, JobSpec, Ledger
from quorum.bulk.listings import Listing
from quorum.bulk.outputs import Outputs, dead_letters_of, target_of
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_client import Answer, DecisionStatus, Extraction, QuorumError, Spent, Status, Vote
from quorum_client.errors import DeadlineExceeded

CATALOGUE = Catalogue.of([Attribute("color", values=("red", "blue")), Attribute("size")])
MEMBERS = ("a", "b")


def scan_of(*rows: int) -> Scan:
    """A scan of parts with so many rows."""
    parts = tuple(Part(n, 0, sum(rows[:n]), count, None, 0) for n, count in enumerate(rows))
    return Scan(sources=(), columns=("sku", "title"), parts=parts, rows=sum(rows))


def listing(row: int) -> Listing:
    """The listing of a row; some texts would be formulas to a spreadsheet, or have several lines."""
    title = ("=cmd()", 'a "red" shoe,\nsize 4', "größe 42")[row % 3]
    values = {"sku": f"s-{row}", "title": title}
    gold = {"color": ["red"]} if row % 2 else {}
    return Listing(f"s-{row}", title, "shoes", gold, values, place=f"in.csv: row {row + 1}")


def answer(row: int, version: int = 3, channel: str = "quorum") -> Extraction:
    """The answer to a row."""
    votes = (
        Vote("a", "red", Status.ANSWERED, -0.125),
        Vote("b", None, Status.TIMEOUT) if row % 2 else Vote("b", "blue", Status.ANSWERED, -1.5),
    )
    none = Answer("size", None, 0.0, (Vote("a", None, Status.ERROR), Vote("b", None, Status.ERROR)))
    answers = (
        Answer("color", "red", 0.5 + row / 1000, votes),
        Answer("size", "4", 0.75, votes) if row % 3 else _undecided(none),
    )
    usage = {"a": Spent(1, 100, 7, 0, 0.5, 0.001), "b": Spent(1, None, None, None, None, None)}
    cost = None if row % 2 else 0.001
    return Extraction(f"id-{row}", answers, version, 0.01, channel, cost=cost, usage=usage)


def _undecided(answer: Answer) -> Answer:
    return Answer(answer.attribute, None, 0.0, answer.votes, DecisionStatus.NO_ANSWER)


@dataclass
class Job:
    """A job in a folder of its own.

    Attributes:
        folder: Holds the job's folder and its outputs.
        rows: Rows of each part.
        out: Name of the answers; a URL, or within ``folder``; None: none.
        votes: Name of the votes, in the same way.
        bad: Rows that cannot be read.
        failing: Rows that fail.
        version: Version of the weights that answers.
    """

    folder: Path
    rows: Sequence[int] = (2, 3)
    out: str | None = "answers.csv"
    votes: str | None = "votes.jsonl"
    bad: frozenset[int] = frozenset()
    failing: frozenset[int] = frozenset()
    version: int = 3
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.notes: list[str] = []

    @property
    def path(self) -> Path:
        return self.folder / "job"

    @property
    def spec(self) -> JobSpec:
        targets = []
        if self.out is not None:
            targets.append(target_of("answers", self._name(self.out)))
            targets.append(dead_letters_of(targets[0]))
        if self.votes is not None:
            targets.append(target_of("votes", self._name(self.votes)))
        whole: dict[str, Any] = {
            "scan": scan_of(*self.rows),
            "mapping": {"text": ["title"]},
            "attributes": ("color", "size"),
            "catalogue": CATALOGUE,
            "members": MEMBERS,
            "outputs": Outputs(targets=tuple(targets)),
        }
        return JobSpec(**(whole | self.changes))

    def row(self, number: int) -> Listing | BadRow:
        if number in self.bad:
            return BadRow(number, f"in.csv: row {number + 1}", "a quote is not closed", '"shoe, größe')
        return listing(number)

    def begin(self, **options: Any) -> Ledger:
        return Ledger.begin(self.path, self.spec, note=self.notes.append, **options)

    def ask(self, row: int) -> Extraction | QuorumError:
        """Ask about a row; that it was is noted in a file outside of ``folder``, which outlives a kill."""
        handle = os.open(self._asked, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{row}\n".encode())
        os.close(handle)
        return DeadlineExceeded("too late") if row in self.failing else answer(row, self.version)

    @property
    def asked(self) -> list[int]:
        """The rows that were asked so far, each time."""
        return [int(row) for row in self._asked.read_text().split()] if self._asked.exists() else []

    def work_on(self, ledger: Ledger, *, retry: bool = False) -> None:
        """Ask what is left, and commit each part."""
        for pending in ledger.pending(retry):
            rows = range(pending.part.first, pending.part.first + pending.part.rows)
            for row in rows:
                found = self.row(row)
                if isinstance(found, Listing) and row not in pending.entries:
                    ledger.append(pending.part.number, Entry.of(row, found.product, self.ask(row)))
            ledger.commit(pending.part.number, [(row, self.row(row)) for row in rows])

    def run(self, *, retry: bool = False, **options: Any) -> tuple[str, ...]:
        """The whole job."""
        with self.begin(**options) as ledger:
            self.work_on(ledger, retry=retry)
            return ledger.finish()

    def written(self) -> dict[str, bytes]:
        """The outputs, by name: every file but those of the job's folder."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in files
            if self.path not in path.parents
        }

    @property
    def _asked(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.asked")

    def _name(self, name: str) -> str:
        return name if "://" in name else f"{self.folder}/{name}"


def begun(job: Job, rows: int = 3) -> Path:
    """Ask the first rows, as if the process was killed then; the journal of the last."""
    with job.begin() as ledger:
        for pending in ledger.pending():
            part = pending.part
            for row in range(part.first, min(part.first + part.rows, rows)):
                ledger.append(part.number, Entry.of(row, f"s-{row}", job.ask(row)))
    return max((job.path / "parts").glob("*.journal"))
