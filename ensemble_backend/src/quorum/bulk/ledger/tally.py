# SPDX-License-Identifier: Apache-2.0
"""Count the outcomes of a bulk job: rows, answers, votes, errors and what they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from quorum.bulk.ledger.entry import Entry
from quorum.bulk.spent import Totals
from quorum_client import DecisionStatus, Extraction, InvalidRequest


@dataclass(slots=True)
class Tally:
    """Sums over outcomes.

    Attributes:
        answered: Rows with an answer.
        failed: Rows with an error.
        bad: Rows that could not be read; they are in the dead letters.
        voteless: Rows of ``answered`` that no member answered, as some failed, see :attr:`Entry.is_voteless`.
        decided: Answers to an attribute with a value, "n/a" included.
        undecided: Name of a :class:`quorum_contract.status.DecisionStatus` -> answers without a value.
        voted: Votes with a value, "n/a" included.
        abstained: Member -> name of a :class:`quorum_contract.status.Status` -> its votes without a value.
        errors: Code of an error -> rows that failed with it.
        messages: Code of an error -> its message at the first of these rows.
        channels: Channel, or "CHANNEL for CHANNEL" after a fall-back -> rows that it answered.
        weights: Version of the weights -> rows that they decided.
        spent: What the answers took.
    """

    answered: int = 0
    failed: int = 0
    bad: int = 0
    voteless: int = 0
    decided: int = 0
    undecided: dict[str, int] = field(default_factory=dict)
    voted: int = 0
    abstained: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    spent: Totals = field(default_factory=Totals)

    @property
    def done(self) -> int:
        """Rows with an outcome."""
        return self.answered + self.failed + self.bad

    @property
    def refused(self) -> int:
        """Rows of ``failed`` that no server takes, as they break the contract."""
        return self.errors.get(InvalidRequest.code, 0)

    @property
    def retriable(self) -> int:
        """Rows that ``--retry-failed`` asks again."""
        return self.failed + self.voteless

    @property
    def absent(self) -> int:
        """Votes without a value."""
        return sum(sum(statuses.values()) for statuses in self.abstained.values())

    @property
    def absent_share(self) -> float | None:
        """Share of the votes without a value, in [0, 1]; None where there are no votes."""
        return self.absent / (self.voted + self.absent) if self.voted or self.absent else None

    def add(self, entry: Entry, sign: int = 1) -> None:
        """Count an outcome; with ``sign`` -1 take it off again."""
        if sign < 0:
            tally = Tally()
            tally.add(entry)
            self.add_all(tally, sign)
        elif entry.answer is not None:
            self._add_answer(entry.answer)
            self.voteless += entry.is_voteless
        elif entry.error is not None:
            code, message = entry.error
            self.failed += 1
            _count(self.errors, code)
            self.messages.setdefault(code, message)

    def _add_answer(self, answer: Extraction) -> None:
        self.answered += 1
        came_from = f" for {answer.fallback_from}" if answer.fallback_from else ""
        _count(self.channels, f"{answer.channel}{came_from}")
        _count(self.weights, str(answer.weights_version))
        self.spent.add(answer)
        for decision in answer.answers:
            if decision.status is DecisionStatus.DECIDED:
                self.decided += 1
            else:
                _count(self.undecided, decision.status.name)
            for vote in decision.votes:
                if vote.value is None:
                    _count(self.abstained.setdefault(vote.member, {}), vote.status.name)
                else:
                    self.voted += 1

    def add_all(self, other: Tally, sign: int = 1) -> None:
        """Count what another tally has; with ``sign`` -1 take it off."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        for name in _COUNTERS:
            _add(getattr(self, name), getattr(other, name), sign)
        for member, statuses in other.abstained.items():
            own = self.abstained.setdefault(member, {})
            _add(own, statuses, sign)
            if not own:
                del self.abstained[member]
        self.messages = {
            code: message for code, message in (other.messages | self.messages).items() if code in self.errors
        }
        for part in fields(Totals):
            now = getattr(self.spent, part.name) + sign * getattr(other.spent, part.name)
            setattr(self.spent, part.name, now)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values without loss."""
        return asdict(self)


_NUMBERS = ("answered", "failed", "bad", "voteless", "decided", "voted")
_COUNTERS = ("undecided", "errors", "channels", "weights")


def _count(counts: dict[str, int], key: str, number: int = 1) -> None:
    """Add to a count; one of 0 is left out."""
    if total := counts.get(key, 0) + number:
        counts[key] = total
    else:
        counts.pop(key, None)


def _add(counts: dict[str, int], other: Mapping[str, int], sign: int) -> None:
    for key, number in other.items():
        _count(counts, key, sign * number)


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
