# SPDX-License-Identifier: Apache-2.0
"""Add up what answers took, and say it in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quorum.bulk.callbacks import Note, ignore
from quorum_client import Extraction, Spent, Status


@dataclass(slots=True)
class Totals:
    """What the answers of a run took; sums are over the answers that say it.

    Attributes:
        answers: Answers that say what they took.
        calls: Calls of members.
        prompt_tokens: Tokens of prompts, where they are known.
        answer_tokens: Tokens of answers, where they are known.
        cached_tokens: Tokens of prompts that came from prefix caches, where they are known.
        cost: Money, where it is known.
        without_tokens: Answers whose tokens are not known.
        without_cost: Answers whose cost is not known.
    """

    answers: int = 0
    calls: int = 0
    prompt_tokens: float = 0
    answer_tokens: float = 0
    cached_tokens: float = 0
    cost: float = 0.0
    without_tokens: int = 0
    without_cost: int = 0

    def add(self, result: Extraction) -> None:
        """Add an answer; one of a server of an earlier release says nothing."""
        if result.usage:
            self.add_parts(result.usage.values(), result.cost)

    def add_parts(self, parts: Iterable[Spent], cost: float | None) -> None:
        """Add an answer by what its members took, and its cost."""
        self.answers += 1
        self.without_cost += cost is None
        self.cost += cost or 0.0
        is_known = True
        for spent in parts:
            self.calls += int(spent.calls)
            self.prompt_tokens += spent.prompt_tokens or 0
            self.answer_tokens += spent.answer_tokens or 0
            self.cached_tokens += spent.cached_tokens or 0
            is_known &= spent.tokens is not None
        self.without_tokens += not is_known

    def in_words(self, currency: str = "") -> str:
        """The totals for people."""
        parts = [f"{self.calls} calls, {self.calls / self.answers:.2f} per answer"]
        if self.prompt_tokens or self.answer_tokens:
            parts.append(_tokens(self.prompt_tokens, self.answer_tokens, self.cached_tokens))
            if self.without_tokens:
                parts[-1] += f" (not known of {self.without_tokens} answers)"
        if self.without_cost < self.answers:
            each = self.cost / (self.answers - self.without_cost)
            parts.append(f"cost {money(self.cost, currency)}, {money(each, currency)} per answer")
            if self.without_cost:
                parts[-1] += f" (not known of {self.without_cost} answers)"
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; tokens and cost are None where they are known of no answer."""
        has_tokens = self.without_tokens < self.answers
        tokens = (self.prompt_tokens, self.answer_tokens, self.cached_tokens)
        names = ("prompt_tokens", "answer_tokens", "cached_tokens")
        return {
            "calls": self.calls,
            **{name: round(n) if has_tokens else None for name, n in zip(names, tokens, strict=True)},
            "cost": float(f"{self.cost:.8g}") if self.without_cost < self.answers else None,
            "answers_without_tokens": self.without_tokens,
            "answers_without_cost": self.without_cost,
        }


@dataclass(slots=True)
class BudgetSpent:
    """How a member's spent budget shows in a run.

    Attributes:
        since: When the first answer without it came, UTC.
        row: The row of that answer, from 1.
        answers: Answers without it.
    """

    since: str
    row: int
    answers: int = 0


class BudgetWatch:
    """Notes when answers go on without a member whose budget is spent, and when it answers again.

    Args:
        note: Takes the remarks.

    Attributes:
        spent: Member -> how its budget showed; empty: all had one left.
    """

    def __init__(self, note: Note = ignore) -> None:
        self._note = note
        self._absent: set[str] = set()
        self.spent: dict[str, BudgetSpent] = {}

    def add(self, row: int, result: Extraction) -> None:
        """Take the answer to a row of the file, counted from 1."""
        statuses = [(vote.member, vote.status) for answer in result.answers for vote in answer.votes]
        if not self._absent and all(status is not Status.BUDGET for _, status in statuses):
            return
        absent = {member for member, status in statuses if status is Status.BUDGET}
        # Others say nothing of a budget: a member that was not asked may have none left.
        answering = {member for member, status in statuses if status is Status.ANSWERED}
        members = {member for member, _ in statuses}
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        for name in sorted(absent):
            self.spent.setdefault(name, BudgetSpent(now, row)).answers += 1
        before, self._absent = self._absent, self._absent - answering | absent
        if new := sorted(absent - before):
            left = f"{len(members - self._absent)} of {len(members)} members"
            self._note(
                f"{now}, row {row}: the budget of {', '.join(new)} is spent; answers go on with {left}"
            )
        if back := sorted(before - self._absent):
            self._note(f"{now}, row {row}: {', '.join(back)} answers again")


def spent_in_words(spent: Spent, currency: str = "") -> str:
    """What one answer took, for people."""
    parts = [f"{spent.calls:.0f} call{'s' * (spent.calls != 1)}"]
    if spent.prompt_tokens is not None and spent.answer_tokens is not None and spent.tokens:
        parts.append(_tokens(spent.prompt_tokens, spent.answer_tokens, spent.cached_tokens or 0))
    if spent.cost is not None:
        parts.append(f"cost {money(spent.cost, currency)}")
    return ", ".join(parts)


def totals_in_words(stated: Mapping[str, Any], currency: str = "") -> str:
    """What :meth:`Totals.to_json` says, for people."""
    names = ("calls", "prompt_tokens", "answer_tokens", "cached_tokens", "cost")
    words = spent_in_words(Spent(**{name: stated[name] for name in names}), currency)
    for what, number in (("tokens", stated["prompt_tokens"]), ("cost", stated["cost"])):
        if number is not None and (unknown := stated[f"answers_without_{what}"]):
            words += f" ({what} not known of {unknown} answers)"
    return words


def money(amount: float, currency: str) -> str:
    """An amount with three digits that count, or two decimals."""
    short = f"{amount:.3g}"
    number = short if 0 < float(short) < 1 else f"{amount:.2f}"
    return f"{number} {currency}".strip()


def rounded(number: float) -> str:
    """A number with three digits that count; a large one with its zeros, in groups of three."""
    short = float(f"{number:.3g}")
    return f"{short:,.0f}".replace(",", " ") if short >= 1000 else f"{number:.3g}"


def _tokens(prompt: float, answer: float, cached: float) -> str:
    held = f" ({cached:.0f} cached)" if cached else ""
    return f"{prompt:.0f} prompt tokens{held}, {answer:.0f} answer tokens"
