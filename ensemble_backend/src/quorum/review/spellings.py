# SPDX-License-Identifier: Apache-2.0
"""Spell votes as a catalogue does; find cells in which spellings of one answer count as different ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path

from quorum.decision.answer_kinds import has_one_value
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, VotesTable
from quorum.votes.schema import known_scores
from quorum.votes.table import build_table
from quorum_contract import NOT_APPLICABLE

_COUNTED = 10_000
_REMEMBERED = 1 << 16

Normalise = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Spellings:
    """Cells with two spellings of one answer; ``example`` are the two that most of them have."""

    cells: int
    example: tuple[str, str]


class Spelling:
    """Spells cells as a catalogue does, as serving does, and counts what changes.

    A vote that is no value of a closed attribute becomes an abstention; gold outside a closed set stays.
    Spans, several values and texts stay as they are: the server spelled them when it read them.

    Attributes:
        respelled: Votes that got another spelling.
        to_not_applicable: Votes that became "n/a".
        outside: Votes that became abstentions.
        gold: Cells whose gold changed.
        changes: (attribute, before, after) -> votes; after is None for outside.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.respelled = self.to_not_applicable = self.outside = self.gold = 0
        self.changes: Counter[tuple[str, str, str | None]] = Counter()
        self._others = _not_single(catalogue)
        attribute = lru_cache(maxsize=_REMEMBERED)(catalogue.get)
        self._normal: Callable[[str, str], str | None] = lru_cache(maxsize=_REMEMBERED)(
            lambda name, value: attribute(name).normalise(value)
        )

    @property
    def changed(self) -> int:
        """Votes that changed."""
        return self.respelled + self.to_not_applicable + self.outside

    def cell(self, cell: Cell) -> Cell:
        """The cell in the catalogue's spelling."""
        if cell.attribute in self._others:
            return cell
        values = tuple(v if v is None else self._value(cell.attribute, v) for v in cell.values)
        accepted = tuple(dict.fromkeys(self._normal(cell.attribute, v) or v for v in cell.gold))
        if values == cell.values and accepted == cell.gold:
            return cell
        self.gold += accepted != cell.gold
        kept = zip(values, cell.scores, strict=False)
        scores = known_scores(None if value is None else score for value, score in kept)
        return replace(cell, values=values, gold=accepted, scores=scores)

    def _value(self, attribute: str, before: str) -> str | None:
        after = self._normal(attribute, before)
        if after == before:
            return before
        if after is None:
            self.outside += 1
        elif after == NOT_APPLICABLE:
            self.to_not_applicable += 1
        else:
            self.respelled += 1
        change = (attribute, before, after)
        if change in self.changes or len(self.changes) < _COUNTED:
            self.changes[change] += 1
        return after


def as_served(table: VotesTable, catalogue: Catalogue) -> tuple[VotesTable, int]:
    """The table with votes and gold as serving spells them, and how many votes changed."""
    spelling = Spelling(catalogue)
    cells = [spelling.cell(cell) for cell in table.cells]
    changed = any(one is not other for one, other in zip(cells, table.cells, strict=True))
    return build_table(table.members, cells) if changed else table, spelling.changed


def respelled_in_words(votes: int) -> str:
    """Say how many votes were judged in another spelling than recorded; "" if none were."""
    counted = "1 vote counts" if votes == 1 else f"{votes} votes count"
    return f"{counted} as deploy.yaml spells values, not as recorded" if votes else ""


def find_spellings(cells: Iterable[Cell], catalogue: Catalogue | None = None) -> Spellings | None:
    """Count cells in which members name one answer in two spellings, or the gold's in another than the gold.

    Args:
        cells: Cells of a votes table.
        catalogue: Says which answers are one; None: case, punctuation, spaces and words for "not given".

    Returns:
        None if there is no such cell. Cells of spans, several values and texts are left out.
    """
    known = catalogue or Catalogue.of([])
    others = _not_single(known)
    by_attribute: dict[str, Normalise] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    found = 0
    for cell in cells:
        answers = {*cell.values, *cell.gold} - {None}
        if len(answers) < 2 or cell.attribute in others or any(map(_is_list, answers)):
            continue
        normalise = by_attribute.get(cell.attribute)
        if normalise is None:
            normalise = by_attribute[cell.attribute] = cache(known.get(cell.attribute).normalise)
        own = set(_pairs(cell, normalise))
        found += bool(own)
        pairs.update(own)
    return Spellings(found, max(pairs, key=lambda pair: (pairs[pair], pair))) if found else None


def spelling_remarks(
    votes: VotesTable | Iterable[Cell], source: str | Path, catalogue: Catalogue | None = None
) -> tuple[str, ...]:
    """Say in one line that spellings of one answer count as different; empty where none do."""
    found = find_spellings(votes.cells if isinstance(votes, VotesTable) else votes, catalogue)
    if found is None:
        return ()
    one, other = found.example
    cells = "1 cell" if found.cells == 1 else f"{found.cells} cells"
    remark = (
        f"{source}: spellings of one answer, such as {one!r} and {other!r}, count as different answers in "
        f"{cells}: `quorum votes normalise` makes them one"
    )
    return (remark,)


def _not_single(catalogue: Catalogue) -> frozenset[str]:
    """Attributes whose answers are no single values."""
    return frozenset(name for name, kind in catalogue.answer_kinds().items() if not has_one_value(kind))


def _is_list(answer: str | None) -> bool:
    """Whether an answer looks like JSON of spans or of several values."""
    return answer is not None and answer[:1] == "[" and answer[-1:] == "]"


def _pairs(cell: Cell, normalise: Normalise) -> Iterator[tuple[str, str]]:
    """Distinct spellings of one answer, sorted: two of votes, or a wrong vote's and one of the gold."""
    same: defaultdict[str | None, set[str]] = defaultdict(set)
    for value in cell.values:
        if value is not None:
            same[normalise(value)].add(value)
    for answer, texts in same.items():
        if answer is None:
            continue
        yield from combinations(sorted(texts), 2)
        for gold in cell.gold:
            if gold not in texts and normalise(gold) == answer and texts.isdisjoint(cell.gold):
                low, high = sorted((min(texts), gold))
                yield low, high
