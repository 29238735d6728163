# SPDX-License-Identifier: Apache-2.0
"""Count what became of the rows of a job: answers, votes, decisions, errors, cost. Counts add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from quorum.bulk.spent import Totals
from quorum_client import DecisionStatus, Extraction
from quorum_contract.errors import InvalidRequest

ROW_BAD = "ROW_BAD"
"""Code of a row that cannot be read, or has no text."""
BAD_CODES = frozenset({ROW_BAD, InvalidRequest.code})


@dataclass(slots=True)
class Tally:
    """Counts over some rows.

    Attributes:
        answered: Rows with an answer.
        failed: Rows with an error, those that cannot be read included.
        errors: Code of an error -> rows that have it, and the message of the first.
        by_channel: Channel, or "CHANNEL for CHANNEL" after a fall-back -> rows that it answered.
        by_weights: Version of the weights -> rows that they decided.
        voted: Votes with a value, "n/a" included.
        abstained: Member -> name of a status -> its votes without a value.
        decided: Answers to an attribute with a value, "n/a" included.
        undecided: Name of a status -> answers without a value.
        spent: What the answers took.
    """

    answered: int = 0
    failed: int = 0
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    by_channel: Counter[str] = field(default_factory=Counter)
    by_weights: Counter[int] = field(default_factory=Counter)
    voted: int = 0
    abstained: dict[str, Counter[str]] = field(default_factory=dict)
    decided: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    spent: Totals = field(default_factory=Totals)

    @property
    def done(self) -> int:
        """Rows with an outcome."""
        return self.answered + self.failed

    @property
    def bad(self) -> int:
        """Rows that no server can answer: they cannot be read, or break the contract."""
        return sum(rows for code, (rows, _) in self.errors.items() if code in BAD_CODES)

    @property
    def abstained_share(self) -> float | None:
        """Share of the votes without a value; None where there are no votes."""
        absent = sum(found.total() for found in self.abstained.values())
        return absent / (self.voted + absent) if self.voted + absent else None

    def add_error(self, code: str, message: str) -> None:
        """Count a row with an error."""
        self.failed += 1
        known, first = self.errors.get(code, (0, message))
        self.errors[code] = known + 1, first

    def add_answer(self, answer: Extraction) -> None:
        """Count a row with an answer."""
        self.answered += 1
        self.by_channel[_channel(answer)] += 1
        self.by_weights[answer.weights_version] += 1
        self.spent.add(answer)
        for one in answer.answers:
            for vote in one.votes:
                if vote.value is None:
                    self.abstained.setdefault(vote.member, Counter())[vote.status.name] += 1
                else:
                    self.voted += 1
            if one.status is DecisionStatus.DECIDED:
                self.decided += 1
            else:
                self.undecided[one.status.name] += 1

    def add(self, other: Tally) -> None:
        """Add the counts over other rows."""
        for name in ("answered", "failed", "voted", "decided"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for code, (rows, first) in other.errors.items():
            known, before = self.errors.get(code, (0, first))
            self.errors[code] = known + rows, before
        self.by_channel += other.by_channel
        self.by_weights += other.by_weights
        self.undecided += other.undecided
        for member, found in other.abstained.items():
            self.abstained.setdefault(member, Counter()).update(found)
        for part in fields(Totals):
            setattr(self.spent, part.name, getattr(self.spent, part.name) + getattr(other.spent, part.name))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without loss."""
        return asdict(self) | {"by_weights": {str(v): rows for v, rows in self.by_weights.items()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Tally:
        """Inverse of :meth:`to_dict`."""
        return cls(
            **data
            | {
                "errors": {code: (int(rows), str(first)) for code, (rows, first) in data["errors"].items()},
                "by_channel": Counter(data["by_channel"]),
                "by_weights": Counter({int(v): rows for v, rows in data["by_weights"].items()}),
                "abstained": {member: Counter(found) for member, found in data["abstained"].items()},
                "undecided": Counter(data["undecided"]),
                "spent": Totals(**data["spent"]),
            }
        )


def _channel(answer: Extraction) -> str:
    return f"{answer.channel} for {answer.fallback_from}" if answer.fallback_from else answer.channel
