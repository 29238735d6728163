# SPDX-License-Identifier: Apache-2.0
"""What a job has done: the record that ``quorum extract`` returns and prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quorum.bulk.ledger import Tally
from quorum.bulk.outcomes import Ended
from quorum.bulk.spent import BudgetSpent, Totals
from quorum.records import Record, plain
from quorum_contract.errors import QuorumError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractReport(Record):
    """Result of a run, over all rows of its job: those of earlier runs of the same command are included.

    Attributes:
        rows: Rows of the input.
        tally: Counts over the rows with an outcome.
        asked: Rows that got their outcome in this run.
        ended: "complete", "interrupted" by Ctrl-C, or "unavailable": the server was away or full for longer
            than the patience of the run. After the last two the same call goes on.
        last_error: Why the server was unavailable; None for other ends.
        outputs: Files and folders that exist now; those of a job that is not complete may still be parts.
        job: Folder of the job; None with ``only``.
        routed: Whether a share of the products was routed to the canary.
        only: Members that were asked; empty: all.
        budgets: Member -> since when its budget was spent, and how many answers of this run it is missing in.
    """

    rows: int
    tally: Tally
    asked: int
    ended: Ended
    last_error: QuorumError | None = None
    outputs: tuple[str, ...] = ()
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
    def voteless(self) -> int:
        """Rows of ``answered`` that no member answered, as some failed; ``retry_failed`` asks them again."""
        return self.tally.voteless

    @property
    def bad(self) -> int:
        """Rows that could not be read; they are in the dead letters."""
        return self.tally.bad

    @property
    def spent(self) -> Totals:
        """Calls, tokens and cost of all answers."""
        return self.tally.spent

    @property
    def left(self) -> int:
        """Rows without an outcome, because the run ended early."""
        return self.rows - self.tally.done

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the channels only where a share was routed."""
        tally = self.tally
        data: dict[str, Any] = {
            name: plain(getattr(self, name))
            for name in (
                "ended",
                "rows",
                "answered",
                "voteless",
                "failed",
                "bad",
                "left",
                "asked",
                "outputs",
                "job",
            )
        }
        data["errors"] = {
            code: {"listings": rows, "first": tally.messages.get(code, "")}
            for code, rows in sorted(tally.errors.items())
        }
        data |= {"voted": tally.voted, "abstained": tally.abstained}
        data |= {"spent": tally.spent.to_json()} if tally.spent.answers else {}
        data |= {"budgets": plain(self.budgets)} if self.budgets else {}
        data |= {"last_error": str(self.last_error)} if self.last_error else {}
        if self.only:
            return data | {"only": list(self.only)}
        data |= {"decided": tally.decided, "undecided": tally.undecided}
        data |= {"weights": tally.weights}
        return data | ({"channels": tally.channels} if self.routed else {})
