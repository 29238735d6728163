# SPDX-License-Identifier: Apache-2.0
"""Find votes and gold of spans, and of several values, that cannot be read, and leave them out in sight.

One rule for learning and for every measure: a vote that cannot be read is an abstention, and gold that cannot
be read is no gold. Of several values a plain vote (`red`) is one value; several plain texts as gold
(`["red", "blue"]`) are all the values of one answer, as in listings. Gold with alternatives has JSON lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quorum.decision.answer_kinds import AnswerKind, AnswerKinds, kind_in
from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.sets import Thing, things_remembered
from quorum.decision.spans import SpansError, TextSpan, dump_values
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable, build_table


@dataclass(frozen=True, slots=True)
class _Format:
    """How answers of a kind that name several things are written.

    Attributes:
        thing: Type of what they name.
        form: What they are.
        advice: What to write; ``without_text``: where a row has no text.
        may_be_plain: Whether a plain text is an answer that names this alone.
    """

    thing: type[Thing]
    form: str
    advice: str
    without_text: str
    may_be_plain: bool


_WRITE_VALUES = 'write ["red","blue"], or n/a for none'
FORMATS: Mapping[AnswerKind, _Format] = {
    "spans": _Format(
        TextSpan,
        "JSON list of [text, type]",
        'write [["words of the title","type"], ...] with words as in the title, [] for none',
        "give the product's text as `title`, which spans are parts of",
        may_be_plain=False,
    ),
    "values": _Format(str, "JSON list of texts", _WRITE_VALUES, _WRITE_VALUES, may_be_plain=True),
}
"""Of the kinds whose answers may be unreadable; one that is absent is any text."""


@dataclass(slots=True)
class Unreadable:
    """Answers of one attribute that cannot be read.

    Attributes:
        votes: Number of votes; ``gold``: of acceptable answers.
        product: The product of the first one.
        reason: Why that one cannot be read.
        without_text: Whether its row has no text.
    """

    votes: int = 0
    gold: int = 0
    product: str = ""
    reason: str = ""
    without_text: bool = False

    def add(self, cell: Cell, reason: str, *, is_gold: bool) -> None:
        """Count one."""
        if not self.votes + self.gold:
            self.product, self.reason, self.without_text = cell.product, reason, not cell.title
        self.gold += is_gold
        self.votes += not is_gold

    def in_words(self, name: str, kind: AnswerKind) -> str:
        """Say how many, which one is the first, and what to write."""
        counts = [(self.votes, "vote"), (self.gold, "gold answer")]
        found = " and ".join(f"{n} {what}{'s' if n != 1 else ''}" for n, what in counts if n)
        known = FORMATS[kind]
        advice = known.without_text if self.without_text else known.advice
        return (
            f"{name}: {found} cannot be read and do not count, first of product {self.product}: "
            f"{self.reason}; {advice}"
        )


def readable(table: VotesTable, kinds: AnswerKinds) -> tuple[VotesTable, tuple[str, ...]]:
    """The table with answers of sets that can be read alone, and a remark per attribute on the others.

    Args:
        table: Any votes.
        kinds: Kinds of the attributes.

    Returns:
        The table itself where nothing changes.
    """
    found: dict[str, Unreadable] = {}
    cells: list[Cell] = []
    for cell in table.cells:
        known = FORMATS.get(kind_in(kinds, cell.attribute))
        cells.append(cell if known is None else _read(cell, known, found))
    if all(new is old for new, old in zip(cells, table.cells, strict=True)):
        return table, ()
    remarks = tuple(one.in_words(name, kind_in(kinds, name)) for name, one in sorted(found.items()))
    return build_table(table.members, cells), remarks


def _read(cell: Cell, known: _Format, found: dict[str, Unreadable]) -> Cell:
    """The cell as it is, or without what cannot be read, which is counted."""

    def kept(answer: str, *, is_gold: bool) -> str | None:
        try:
            return _answer(answer, known, cell.title)
        except SpansError as error:
            found.setdefault(cell.attribute, Unreadable()).add(cell, str(error), is_gold=is_gold)
            return None

    values = tuple(None if vote is None else kept(vote, is_gold=False) for vote in cell.values)
    given = _joined(cell.gold) if known.may_be_plain else cell.gold
    gold = tuple(one for one in (kept(answer, is_gold=True) for answer in given) if one is not None)
    return cell if (values, gold) == (cell.values, cell.gold) else replace(cell, values=values, gold=gold)


def _answer(answer: str, known: _Format, text: str) -> str:
    """An answer as votes spell it; raises SpansError for one that cannot be read."""
    if answer == NOT_APPLICABLE:
        return answer
    if known.may_be_plain and not answer.lstrip().startswith("["):
        return dump_values([answer])
    if not all(isinstance(thing, known.thing) for thing in things_remembered(answer, text)):
        raise SpansError(f"{answer!r:.80} is no {known.form}")
    return answer


def _joined(gold: Sequence[str]) -> Sequence[str]:
    """Several plain texts as one answer with all of them."""
    plain = [one for one in gold if one != NOT_APPLICABLE]
    if len(plain) < 2 or any(one.lstrip().startswith("[") for one in plain):
        return gold
    return [dump_values(plain)]
