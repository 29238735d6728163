# SPDX-License-Identifier: Apache-2.0
"""Count the outcomes of a bulk job: rows, answers, votes and what they took."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from quorum.bulk.ledger.entry import Entry
from quorum_client import DecisionStatus


@dataclass(slots=True)
class Tally:
    """Sums over outcomes.

    Attributes:
        answered: Rows with an answer.
        failed: Rows with an error.
        bad: Rows that could not be read; they are in the dead letters.
        cells: Attributes that were asked of the answered rows.
        decided: How many of these have a value, "n/a" included.
        votes: Votes of members on them.
        abstained: How many of these have no value.
        calls: Calls of members.
        prompt_tokens: Tokens of prompts, where they are known.
        answer_tokens: Tokens of answers, where they are known.
        cost: Money, where it is known.
        without_cost: Answers whose cost is not known.
    """

    answered: int = 0
    failed: int = 0
    bad: int = 0
    cells: int = 0
    decided: int = 0
    votes: int = 0
    abstained: int = 0
    calls: float = 0
    prompt_tokens: float = 0
    answer_tokens: float = 0
    cost: float = 0.0
    without_cost: int = 0

    @property
    def done(self) -> int:
        """Rows with an outcome."""
        return self.answered + self.failed + self.bad

    def add(self, entry: Entry, sign: int = 1) -> None:
        """Count an outcome; with ``sign`` -1 take it off again."""
        answer = entry.answer
        if answer is None:
            self.failed += sign
            return
        self.answered += sign
        for one in answer.answers:
            self.cells += sign
            self.decided += sign * (one.status is DecisionStatus.DECIDED)
            self.votes += sign * len(one.votes)
            self.abstained += sign * sum(vote.value is None for vote in one.votes)
        self.without_cost += sign * (answer.cost is None)
        self.cost += sign * (answer.cost or 0.0)
        for spent in answer.usage.values():
            self.calls += sign * spent.calls
            self.prompt_tokens += sign * (spent.prompt_tokens or 0)
            self.answer_tokens += sign * (spent.answer_tokens or 0)

    def add_all(self, other: Tally, sign: int = 1) -> None:
        """Count what another tally has; with ``sign`` -1 take it off."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + sign * getattr(other, field.name))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Counts:
    """Where a job stands.

    Attributes:
        rows: Rows of the input.
        parts: Parts of it.
        committed: Parts whose outputs are written.
        tally: Sums over the outcomes so far, of earlier runs too.
    """

    rows: int
    parts: int
    committed: int
    tally: Tally
