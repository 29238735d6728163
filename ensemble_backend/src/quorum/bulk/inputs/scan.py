# SPDX-License-Identifier: Apache-2.0
"""Read every input once before anything is asked: what is bad is known while it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from quorum.bulk.inputs.cursors import cursor_over, starts_anywhere
from quorum.bulk.inputs.describe import describe, digest_of, recoded
from quorum.bulk.inputs.encodings import FALLBACKS
from quorum.bulk.inputs.formats.cursor import MOST_COLUMNS, Cursor, Flaw, Place
from quorum.bulk.inputs.formats.parquet import ParquetCursor
from quorum.bulk.inputs.ids import Ids
from quorum.bulk.inputs.layout import Source
from quorum.bulk.inputs.notes import columns_in_words, sources_in_words
from quorum.bulk.inputs.options import PART_ROWS, InputOptions
from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.inputs.sources import find_files
from quorum.bulk.mapping import ColumnMap, ColumnNames, Listing, raw_of

MOST_BAD = 1_000
"""Bad rows that a scan keeps; the others are only counted."""
_RAW = 2_000

Scanned = Callable[[int, int], None]
"""Called with the rows and the bytes that were read so far; of what is packed, the bytes count at its end."""

Check = Callable[[Listing], str]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that follow each other in one source; the unit in which a job commits.

    Attributes:
        number: From 0.
        source: Place of its source in :attr:`Scan.sources`.
        first: Index of its first row over all sources, from 0.
        rows: Number of rows, bad ones too.
        offset: Byte at which the first row begins, of Parquet the row group that has it; None: it is found
            by reading the source from its start.
        line: Line of the source that the first row begins on, from 1; 0 of Parquet.
    """

    number: int
    source: int
    first: int
    rows: int
    offset: int | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the inputs are.

    Attributes:
        sources: The files, in the order of their rows.
        columns: All their columns, in order of appearance.
        parts: All their rows.
        rows: Number of rows, bad ones too.
        bad: The first :data:`MOST_BAD` bad rows, their raw texts cut;
            :class:`quorum.bulk.inputs.parts.PartReader` gives all of them whole.
        bad_rows: Number of bad rows.
        mapping: Which columns make a listing; None if the scan was not asked for listings.
        notes: What was detected and what is remarkable, in words, for people.
    """

    sources: tuple[Source, ...]
    columns: tuple[str, ...]
    parts: tuple[Part, ...]
    rows: int
    bad: tuple[BadRow, ...] = ()
    bad_rows: int = 0
    mapping: ColumnMap | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Scan:
        """Inverse of :meth:`to_json`. Raises ListingsError for anything else."""
        try:
            return msgspec.convert(data, Scan)
        except msgspec.ValidationError as error:
            raise ListingsError(f"the record of a scan cannot be read ({error}); scan anew") from error


def scan(
    names: Sequence[str],
    options: InputOptions | None = None,
    rows_per_part: int = PART_ROWS,
    *,
    columns: ColumnNames | None = None,
    check: Check | None = None,
    spool: Path | None = None,
    own: Sequence[str] = (),
    progress: Scanned | None = None,
) -> Scan:
    """Read every row of the inputs, and say what they are.

    Memory does not grow with the rows, except for the list of parts. Of each file only what the file itself
    says counts, so that the same inputs give the same scan.

    Args:
        names: Files, folders, patterns, ``-`` and URLs, see :func:`quorum.bulk.inputs.sources.find_files`.
        options: How to read them; None: all is detected.
        rows_per_part: Rows of a part; the last one of a source has fewer.
        columns: What makes a listing: rows that make none are bad, and ids are compared. None: only whether
            rows can be read.
        check: Says what else is wrong with a listing; "" for nothing. Such rows are bad, too.
        spool: Folder for standard input.
        own: What the reader itself writes, see :func:`quorum.bulk.inputs.sources.find_files`.
        progress: Called now and then.

    Raises:
        ListingsError: An input cannot be read, has no column that is wanted, or other columns than it may; or
            there is no row at all. A row that cannot be read is no error, but a bad row.
    """
    if rows_per_part < 1:
        raise ListingsError(f"{rows_per_part} rows in a part; give a whole number above 0")
    files, notes = find_files(names, spool, own)
    scanner = _Scanner(options or InputOptions(), rows_per_part, columns, check, progress, notes)
    for file in files:
        scanner.add(describe(file.url, file.name, scanner.options, scanner.rows))
    return scanner.result()


def check_unchanged(found: Scan) -> None:
    """Compare the sources with those that were scanned, byte for byte where they are local files.

    Raises:
        ListingsError: One is missing or has changed.
    """
    for source in found.sources:
        try:
            now = digest_of(source)
        except ListingsError as error:
            raise ListingsError(f"{error}; the job was begun with it: put it back") from error
        if now != source.digest:
            raise ListingsError(
                f"{source.name}: has changed since the job began; put the old file back, or begin another job"
            )


def place_of(sources: Sequence[Source], index: int) -> str:
    """File and row of an index, for messages."""
    source = next(one for one in reversed(sources) if one.first <= index)
    return f"{source.name}: row {index - source.first + 1}"


@dataclass(slots=True)
class _Pass:
    """What a pass over one source found; dropped if its encoding turns out to be another."""

    parts: list[Part] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    bad_rows: int = 0
    numbered: int = 0


class _Scanner:
    """Adds up the sources."""

    def __init__(
        self,
        options: InputOptions,
        rows_per_part: int,
        names: ColumnNames | None,
        check: Check | None,
        progress: Scanned | None,
        notes: list[str],
    ) -> None:
        self.options = options
        self.rows = 0
        self._size, self._names, self._progress, self._notes = rows_per_part, names, progress, notes
        self._mapping: ColumnMap | None = None
        self._check_listing = check
        self._sources: list[Source] = []
        self._bytes = 0
        self._sum = _Pass()
        self._ids = Ids()
        self._kinds: dict[str, tuple[str, str]] = {}

    def add(self, source: Source) -> None:
        """Scan one more source."""
        fixed = self.options.encoding is not None or source.encoding != "utf-8"
        mark = self._ids.mark()
        try:
            found = self._passed(source, fixed=fixed)
        except UnicodeDecodeError:
            self._ids.forget(mark)
            source = recoded(source, self.options)
            if source.encoding == "utf-8":
                self._notes.append(
                    f"{source.name}: some rows are not in UTF-8, as most are; they are bad rows"
                )
            found = self._passed(source, fixed=True)
        if self.options.encoding is None and source.encoding in FALLBACKS:
            self._notes.append(
                f"{source.name}: not in UTF-8; read as {source.encoding}, or as --encoding names it"
            )
        total = self._sum
        total.parts += found.parts
        total.bad += found.bad[: MOST_BAD - len(total.bad)]
        total.bad_rows += found.bad_rows
        total.numbered += found.numbered
        total.columns |= found.columns
        self.rows += found.rows
        source = replace(source, rows=found.rows, columns=tuple(found.columns), digest=digest_of(source))
        self._sources.append(source)
        self._bytes += source.size
        if not found.rows:
            self._notes.append(f"{source.name}: has no rows")

    def _passed(self, source: Source, *, fixed: bool) -> _Pass:
        found = _Pass(columns=dict.fromkeys(source.columns))
        mapping = self._mapped(source, source.columns) if source.columns else self._mapping
        wants_listings = self._names is not None
        with cursor_over(source, fixed=fixed) as cursor:
            self._check_kinds(source, cursor)
            start, begun = cursor.place(), 0
            for values in cursor:
                index = source.first + found.rows
                found.rows += 1
                if isinstance(values, Flaw):
                    self._note_bad(found, bad_row(source, index, values))
                else:
                    if not values.keys() <= found.columns.keys():
                        self._add_columns(found, source, values)
                    if wants_listings:
                        mapping = mapping or self._mapped(source, tuple(values))
                        self._check(found, mapping, Row(index, row_place(source, index), values))
                if found.rows - begun == self._size:
                    self._close(found, source, start, begun)
                    start, begun = cursor.place(), found.rows
            if found.rows > begun:
                self._close(found, source, start, begun)
        return found

    def _mapped(self, source: Source, columns: Sequence[str]) -> ColumnMap | None:
        """The columns of the first source; others need those too."""
        if self._names is None:
            return None
        if self._mapping is None:
            self._mapping = ColumnMap.of(self._names, columns, source.name)
        elif source.format != "jsonl":
            names = replace(self._names, text=self._mapping.text)
            ColumnMap.of(names, columns, source.name)
        return self._mapping

    def _check(self, found: _Pass, mapping: ColumnMap | None, row: Row) -> None:
        """Note whether a row makes a listing, and its id."""
        assert mapping is not None
        listing = mapping.listing(row)
        if isinstance(listing, BadRow):
            self._note_bad(found, listing)
        elif self._check_listing and (reason := self._check_listing(listing)):
            self._note_bad(found, BadRow(row.index, row.place, reason, raw_of(row.values)))
        elif listing.numbered:
            found.numbered += 1
        else:
            self._ids.add(listing.product, row.index)

    def _check_kinds(self, source: Source, cursor: Cursor) -> None:
        """Refuse a column of Parquet with other types in other files."""
        if not isinstance(cursor, ParquetCursor):
            return
        for column, kind in cursor.kinds.items():
            if kind == "null":
                continue
            before, where = self._kinds.setdefault(column, (kind, source.name))
            if kind != before:
                raise ListingsError(
                    f"{source.name}: the column {column!r} holds {kind}, but in {where} {before}; write both "
                    "with one schema"
                )

    def _add_columns(self, found: _Pass, source: Source, values: Mapping[str, Any]) -> None:
        found.columns |= dict.fromkeys(values)
        if len(found.columns) > MOST_COLUMNS:
            raise ListingsError(
                f"{source.name}: has more than {MOST_COLUMNS} different keys, so that they are data; give "
                "each row the same ones"
            )

    def _note_bad(self, found: _Pass, row: BadRow) -> None:
        found.bad_rows += 1
        if len(found.bad) < MOST_BAD:
            found.bad.append(replace(row, raw=row.raw[:_RAW]))

    def _close(self, found: _Pass, source: Source, start: Place, begun: int) -> None:
        """Make a part of the rows since its start."""
        number = len(self._sum.parts) + len(found.parts)
        offset = start.offset if starts_anywhere(source) else None
        first, rows = source.first + begun, found.rows - begun
        found.parts.append(Part(number, len(self._sources), first, rows, offset, start.line))
        if self._progress:
            self._progress(source.first + found.rows, self._bytes + (0 if offset is None else start.offset))

    def result(self) -> Scan:
        """All sources together."""
        total, sources = self._sum, self._sources
        if not self.rows:
            raise ListingsError(f"{', '.join(source.name for source in sources[:3])}: no rows")
        notes = [*sources_in_words(sources), *self._notes]
        if self._mapping is not None:
            notes += columns_in_words(sources, self._mapping.columns)
            notes.append(self._mapping.in_words())
            notes += self._ids_in_words()
        return Scan(
            sources=tuple(sources), columns=tuple(total.columns), parts=tuple(total.parts), rows=self.rows,
            bad=tuple(total.bad), bad_rows=total.bad_rows, mapping=self._mapping, notes=tuple(notes),
        )  # fmt: skip

    def _ids_in_words(self) -> list[str]:
        words = []
        option = self._names.options[1] if self._names else ""
        if self._sum.numbered:
            words.append(
                f"{self._sum.numbered} of {self.rows} rows have no id, so they are numbered (row-1, row-2, "
                f"...) and cannot be joined with other files; name the column of the id with {option}"
            )
        repeated = self._ids.repeated()
        if repeated.ids:
            places = "; ".join(
                " and ".join(place_of(self._sources, row) for row in rows) for rows in repeated.rows
            )
            belong = "id belongs" if repeated.ids == 1 else "ids belong"
            words.append(
                f"{repeated.ids} {belong} to more than one row, such as {places}; each row is asked about, "
                "and has a row of its own in the output."
                " `quorum learn` needs one row for each id of the votes: `quorum votes merge VOTES --prefer "
                "first --out FILE` keeps it"
            )
        return words


def row_place(source: Source, index: int) -> str:
    """File and row, for messages."""
    return f"{source.name}: row {index - source.first + 1}"


def bad_row(source: Source, index: int, flaw: Flaw) -> BadRow:
    """A row that cannot be read, with its place."""
    line = f" (line {flaw.line})" if flaw.line else ""
    return BadRow(index, row_place(source, index) + line, flaw.reason, flaw.raw)
