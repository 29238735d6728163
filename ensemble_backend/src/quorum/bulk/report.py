# SPDX-License-Identifier: Apache-2.0
"""What a job has done: the record that ``quorum extract`` returns and prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from quorum.bulk.spent import BudgetSpent
from quorum.bulk.tally import Tally
from quorum.records import Record, plain
from quorum_contract.errors import QuorumError

Ended = Literal["complete", "interrupted", "unavailable"]


@dataclass(frozen=True, slots=True)
class ExtractReport(Record):
    """Result of a run, over all rows of its job: those of earlier runs of the same command are included.

    Attributes:
        rows: Rows of the input.
        tally: Counts of all rows with an outcome, see :class:`quorum.bulk.tally.Tally`.
        before: Rows that had their outcome before this run.
        spent_before: What these took: cost in the currency of the prices; None: not known, or none.
        bad: Rows of those that failed which no server can answer: they cannot be read, or break the contract.
        ended: "complete", "interrupted" by Ctrl-C, or "unavailable": the server was away, or full, for longer
            than the patience of the run. After the last two the same call goes on.
        last_error: Why the server was unavailable; None for other ends.
        out: File or folder with the answers.
        votes: File or folder with the votes.
        dead_letters: File with the rows that failed, and why; None: there are none.
        job: Folder of the job.
        routed: Whether a share of the products was routed to the canary.
        only: Members that were asked; empty: all.
        budgets: Member -> since when its budget was spent, and how many answers of this run it is missing in.
    """

    rows: int
    tally: Tally
    before: int
    ended: Ended
    out: str | None = None
    votes: str | None = None
    spent_before: float | None = None
    bad: int = 0
    last_error: QuorumError | None = None
    dead_letters: str | None = None
    job: str | None = None
    routed: bool = False
    only: tuple[str, ...] = ()
    budgets: dict[str, BudgetSpent] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return self.tally.answered

    @property
    def failed(self) -> int:
        """Rows that are marked with an error."""
        return self.tally.failed

    @property
    def left(self) -> int:
        """Rows without an outcome, because the run ended early."""
        return self.rows - self.tally.done

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the channels only where a share was routed."""
        tally = self.tally
        data: dict[str, Any] = {
            "ended": self.ended,
            "rows": self.rows,
            **{name: getattr(self, name) for name in ("answered", "failed", "bad", "left", "before")},
            **{name: getattr(self, name) for name in ("out", "votes", "dead_letters", "job")},
            "errors": {
                code: {"listings": rows, "first": first} for code, (rows, first) in tally.errors.items()
            },
            "voted": tally.voted,
            "abstained": plain({member: dict(sorted(f.items())) for member, f in tally.abstained.items()}),
            "weights": plain(dict(sorted(tally.by_weights.items()))),
        }
        data |= {"spent": tally.spent.to_json()} if tally.spent.answers else {}
        data |= {"budgets": plain(self.budgets)} if self.budgets else {}
        data |= {"last_error": str(self.last_error)} if self.last_error else {}
        if self.only:
            return data | {"only": list(self.only)}
        data |= {"decided": tally.decided, "undecided": dict(sorted(tally.undecided.items()))}
        return data | ({"channels": dict(tally.by_channel)} if self.routed else {})
