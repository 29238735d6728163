# SPDX-License-Identifier: Apache-2.0
"""Merge votes tables of other cells, other members, or both; cells wait on disk, not in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from quorum.files import scratch_folder
from quorum.votes.jsonl import Row
from quorum.votes.read import count_rows, read_members, read_rows, unit_of
from quorum.votes.rewrite import Progress, check_output
from quorum.votes.schema import (
    Cell,
    Usage,
    VotesError,
    check_members,
    how_to_keep_one,
    known_scores,
    known_usage,
)
from quorum.votes.write import replacing_votes
from quorum_contract import Spent

Prefer = Literal["first", "last"]
T = TypeVar("T")
_STEP = 1 << 10
_SHOWN = 3
_PAIR = 2
_CACHE_KB = 1 << 16


@dataclass(slots=True)
class Merged:
    """Result of a merge.

    Attributes:
        members: Members of the merged table.
        cells: Number of its cells.
        shared: Cells that stood in more than one of the tables.
        conflicts: Votes, gold, titles and categories that differed; ``prefer`` decided which one stays.
        duplicates: Rows of a single table whose cell an earlier row has; ``prefer`` decided which row stays.
        without: Member -> cells for which no table has a vote or an abstention of it; it abstains there.
    """

    members: tuple[str, ...]
    cells: int = 0
    shared: int = 0
    conflicts: int = 0
    duplicates: int = 0
    without: dict[str, int] = field(default_factory=dict)


def merge(
    sources: Sequence[Path], target: Path, prefer: Prefer | None = None, *, progress: Progress
) -> Merged:
    """Merge votes tables into one that appears when it is complete; cells keep the order of their first row.

    A cell that is in several tables gets the votes of all of them. A vote fills an abstention, gold fills
    missing gold; of two scores of the same vote, and of two origins, the preferred table's stays. Of rows of
    one cell in a single table, the first or the last stays as a whole, as they may be of two texts. Cells
    wait in a temporary file, not in memory.

    Args:
        sources: The tables, of any members; one, to keep a row of each of its cells.
        target: Replaced if it exists, unless it is one of them.
        prefer: Whose vote stays where two tables differ on a cell, or which row of a single table; None: a
            difference is refused.
        progress: Called with the numbers of finished and of all steps: each row is read and written.

    Raises:
        VotesError: A table cannot be read, one of several holds a cell twice, or one differs from
            another without ``prefer``.
    """
    check_output(target, sources)
    of_file = [read_members(source) for source in sources]
    members = tuple(dict.fromkeys(name for names in of_file for name in names))
    check_members(members, target)
    rows = [count_rows(source) for source in sources]
    total, done = 2 * sum(rows), 0
    progress(0, total)
    with _shelf(members, sources, prefer) as shelf:
        for number, source in enumerate(sources):
            for row in read_rows(source):
                shelf.add(number, row)
                done += 1
                if done % _STEP == 0:
                    progress(done, total)
        shelf.refuse_conflicts()
        with replacing_votes(target) as writer:
            for cell, extra in shelf.rows():
                writer.write(cell, members, extra)
                done += 1
                if done % _STEP == 0:
                    progress(done, total)
    progress(total, total)
    return shelf.result


@contextmanager
def _shelf(members: tuple[str, ...], sources: Sequence[Path], prefer: Prefer | None) -> Iterator[_Shelf]:
    """Open a database in a temporary folder; raises VotesError where that has no room for the cells."""
    with scratch_folder("quorum-merge-") as folder:
        try:
            with closing(sqlite3.connect(folder / "cells.sqlite", isolation_level=None)) as database:
                for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KB}"):
                    database.execute(f"PRAGMA {setting}")
                database.execute(
                    "CREATE TABLE cells (id INTEGER PRIMARY KEY, product TEXT, attribute TEXT, file INTEGER,"
                    " number INTEGER, asked INTEGER, cell BLOB, extra TEXT, UNIQUE (product, attribute))"
                )
                database.execute("BEGIN")
                yield _Shelf(database, members, sources, prefer)
        except sqlite3.Error as error:
            raise VotesError(
                f"{folder}: cannot hold the cells to merge ({error}); set TMPDIR to a folder with more room"
            ) from error


class _Shelf:
    """Cells of all tables so far, in a database on disk."""

    def __init__(
        self,
        database: sqlite3.Connection,
        members: tuple[str, ...],
        sources: Sequence[Path],
        prefer: Prefer | None,
    ) -> None:
        self._database, self._sources, self._prefer = database, sources, prefer
        self._places: dict[tuple[str, ...], tuple[list[int], int]] = {}
        self._conflicts: list[str] = []
        self._encode, self._decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Cell).decode
        self.result = Merged(members)

    def add(self, file: int, row: Row) -> None:
        """Add a row of a table, and merge it with what other tables have on its cell."""
        places, asked = self._places_of(row.members)
        cell = _spread(row.cell, places, len(self.result.members))
        extra = json.dumps(dict(row.extra), ensure_ascii=False) if row.extra else None
        key = (cell.product, cell.attribute)
        values = (*key, file, row.number, asked, self._encode(cell), extra)
        if self._database.execute("INSERT OR IGNORE INTO cells VALUES (NULL,?,?,?,?,?,?,?)", values).rowcount:
            self.result.cells += 1
            return
        found = self._database.execute(
            "SELECT id, file, number, asked, cell, extra FROM cells WHERE product = ? AND attribute = ?", key
        ).fetchone()
        at, other, number, before, stored, old_extra = found
        place = self._place(file, row.number)
        if other == file:
            if len(self._sources) > 1 or self._prefer is None:
                raise VotesError(
                    f"{place}: product {cell.product!r}, attribute {cell.attribute!r} stood on "
                    f"{unit_of(self._sources[file])} {number} already; "
                    f"{how_to_keep_one(self._sources[file])}"
                )
            self.result.duplicates += 1
            if self._prefer == "last":
                self._replace(at, file, row.number, asked, cell, extra)
            return
        # Of more than two tables, the earlier vote may come from any.
        earlier = self._place(other, number) if len(self._sources) == _PAIR else "an earlier table"
        merged = self._joined(self._decode(stored), cell, place, earlier)
        pair = [json.loads(text) if text else {} for text in (old_extra, extra)]
        fields = pair[0] | pair[1] if self._prefer == "last" else pair[1] | pair[0]
        self.result.shared += 1
        joined = json.dumps(fields, ensure_ascii=False) if fields else None
        self._replace(at, file, row.number, before | asked, merged, joined)

    def _replace(self, at: int, file: int, number: int, asked: int, cell: Cell, extra: str | None) -> None:
        """Let another cell stand in a place."""
        self._database.execute(
            "UPDATE cells SET file = ?, number = ?, asked = ?, cell = ?, extra = ? WHERE id = ?",
            (file, number, asked, self._encode(cell), extra, at),
        )

    def refuse_conflicts(self) -> None:
        """Raise VotesError for tables that differ, unless one of them is preferred."""
        if self._conflicts and self._prefer is None:
            more = self.result.conflicts - len(self._conflicts)
            raise VotesError(
                f"the tables differ: {'; '.join(self._conflicts)}{f'; and {more} more' if more else ''}. "
                "Decide with --prefer first or --prefer last, or drop a member from one of them "
                "(`quorum votes drop`)"
            )

    def rows(self) -> Iterator[tuple[Cell, Mapping[str, Any]]]:
        """The merged cells, with their other fields."""
        members = self.result.members
        found = self._database.execute("SELECT asked, cell, extra FROM cells ORDER BY id")
        for asked, stored, extra in found:
            for j, name in enumerate(members):
                if not asked >> j & 1:
                    self.result.without[name] = self.result.without.get(name, 0) + 1
            yield self._decode(stored), json.loads(extra) if extra else {}

    def _places_of(self, members: tuple[str, ...]) -> tuple[list[int], int]:
        """Places of a table's members among all, and these as bits."""
        if members not in self._places:
            places = [self.result.members.index(name) for name in members]
            self._places[members] = places, sum(1 << place for place in places)
        return self._places[members]

    def _place(self, file: int, number: int) -> str:
        return f"{self._sources[file]}, {unit_of(self._sources[file])} {number}"

    def _joined(self, old: Cell, new: Cell, place: str, earlier: str) -> Cell:
        """Both cells as one, read at these places."""
        last = self._prefer == "last"

        def chosen(name: str, first: T, second: T) -> T:
            if not first or not second or first == second:
                return first or second
            self._conflict(
                f"{place} (product {new.product!r}, attribute {new.attribute!r}): {name} {second!r}, in "
                f"{earlier} {first!r}"
            )
            return second if last else first

        pairs = zip(self.result.members, old.values, new.values, strict=True)
        values = tuple(chosen(f"{member} votes", a, b) for member, a, b in pairs)
        preferred, other = (new, old) if last else (old, new)
        scores = tuple(
            known if (known := _score(preferred, j, value)) is not None else _score(other, j, value)
            for j, value in enumerate(values)
        )
        return replace(
            preferred,
            category=chosen("the category is", old.category, new.category),
            title=chosen("the title is", old.title, new.title),
            values=values,
            gold=chosen("gold is", old.gold, new.gold),
            origin=preferred.origin or other.origin,
            scores=known_scores(scores),
            usage=known_usage(
                _of(preferred.usage, j) or _of(other.usage, j) for j in range(len(self.result.members))
            ),
        )

    def _conflict(self, text: str) -> None:
        self.result.conflicts += 1
        if len(self._conflicts) < _SHOWN:
            self._conflicts.append(text)


def _of(usage: Usage, at: int) -> Spent | None:
    return usage[at] if usage else None


def _score(cell: Cell, at: int, value: str | None) -> float | None:
    """The score of a vote in a cell that has the same one."""
    return cell.scores[at] if cell.scores and cell.values[at] == value else None


def _spread(cell: Cell, places: Sequence[int], members: int) -> Cell:
    """The cell with its votes at these places, and no vote at others."""
    values: list[str | None] = [None] * members
    scores: list[float | None] = [None] * members
    for place, value in zip(places, cell.values, strict=True):
        values[place] = value
    for place, score in zip(places, cell.scores, strict=False):
        scores[place] = score
    usage: list[Spent | None] = [None] * members
    for place, spent in zip(places, cell.usage, strict=False):
        usage[place] = spent
    return replace(cell, values=tuple(values), scores=known_scores(scores), usage=known_usage(usage))
