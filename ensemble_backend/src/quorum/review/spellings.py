# SPDX-License-Identifier: Apache-2.0
"""Find cells of votes in which two spellings of one answer count as different answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, VotesTable

Normalise = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Spellings:
    """Cells with two spellings of one answer; ``example`` are the two that most of them have."""

    cells: int
    example: tuple[str, str]


def find_spellings(cells: Iterable[Cell], catalogue: Catalogue | None = None) -> Spellings | None:
    """Count cells in which members name one answer in two spellings, or the gold's in another than the gold.

    Args:
        cells: Cells of a votes table.
        catalogue: Says which answers are one; None: case, punctuation, spaces and words for "not given".

    Returns:
        None if there is no such cell.
    """
    known = catalogue or Catalogue.of([])
    by_attribute: dict[str, Normalise] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    found = 0
    for cell in cells:
        if len({*cell.values, *cell.gold} - {None}) < 2:
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
