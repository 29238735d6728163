# SPDX-License-Identifier: Apache-2.0
"""Rows of CSV, in any dialect; what is broken is a row of its own, and takes no other one along."""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quorum.bulk.inputs.dialect import Dialect
from quorum.bulk.inputs.formats.cursor import Flaw, Place, check_columns
from quorum.bulk.inputs.lines import LONGEST_LINE, Lines
from quorum.bulk.inputs.records import ListingsError

LONGEST_RECORD = 16 << 20
"""Bytes of a record of several lines; one that is longer has a quote that is not closed."""
MOST_LINES = 10_000
"""Lines of a record; with more a quote is not closed. Short lines take more memory than their bytes."""
_TOO_LONG = f"a quote is not closed: the cell goes on over {LONGEST_RECORD >> 20} MiB, or {MOST_LINES} lines"
_RUNS = (re.compile(r"[0-9]+"), re.compile(r"[^\W\d_]+"))
_EVIDENCE = 4
_LONGEST_HEADER = 1 << 20
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
"""A line before the header, by which some spreadsheets name the delimiter."""


class CsvCursor:
    """Reads the rows of CSV after the header.

    The module :mod:`csv` parses; it is fed line by line, so that it is known at which byte each record
    begins. Where it finds an error in a record of several lines, a quote was not closed: the record's first
    line becomes a :class:`Flaw`, and the next ones are read again as rows.
    """

    def __init__(
        self,
        lines: Lines,
        columns: Sequence[str],
        dialect: Dialect,
        encoding: str,
        *,
        fixed: bool,
        place: Place,
    ) -> None:
        """Start where ``lines`` are.

        Args:
            lines: Lines after the header.
            columns: Names of the cells.
            dialect: The dialect.
            encoding: A codec whose lines are those of its bytes.
            fixed: Bytes that the encoding does not allow make a row bad; else they raise UnicodeDecodeError.
            place: Where ``lines`` begin.
        """
        # A limit of the whole process. Cells as long as the longest line are none of its business.
        csv.field_size_limit(LONGEST_LINE)
        self._lines, self._source = lines, iter(lines)
        self._columns, self._dialect = tuple(columns), dialect
        self._encoding, self._fixed = encoding, fixed
        self._offset, self._line, self._row = place
        self._again: deque[bytes] = deque()
        self._record: list[bytes] = []
        self._damage: UnicodeDecodeError | None = None
        self.at = 0

    def place(self) -> Place:
        """Where the next row begins."""
        return Place(self._offset, self._line, self._row)

    def __iter__(self) -> Iterator[Mapping[str, Any] | Flaw]:
        columns, width, record = self._columns, len(self._columns), self._record
        reader = self._reader()
        while True:
            record.clear()
            self._damage = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reader = self._reader()
                yield self._first_line(_reason(error, len(record)))
                continue
            if len(record) > 1 and self._swallows_rows():
                reader = self._reader()
                yield self._first_line("a quote is not closed: the cell goes on over lines that are rows")
                continue
            if len(cells) > width and not any(cells[width:]):
                # Spreadsheets write delimiters for empty columns.
                cells = cells[:width]
            self._took()
            if not cells:
                continue
            self._row += 1
            if len(cells) == width and self._damage is None and not self._lines.is_suspicious:
                yield dict(zip(columns, cells, strict=True))
            else:
                yield self._checked(cells)

    def _reader(self) -> Iterator[list[str]]:
        """A parser that begins with a new record."""
        return csv.reader(self._fed(), **self._dialect.settings())

    def _fed(self) -> Iterator[str]:
        """Lines for the parser, which asks for those of one record at a time."""
        record, encoding, size = self._record, self._encoding, 0
        while (raw := self._again.popleft() if self._again else next(self._source, None)) is not None:
            record.append(raw)
            size = len(raw) if len(record) == 1 else size + len(raw)
            if len(record) > MOST_LINES or (size > LONGEST_RECORD and len(record) > 1):
                raise csv.Error(_TOO_LONG)
            try:
                yield raw.decode(encoding)
            except UnicodeDecodeError as error:
                if not self._fixed:
                    raise
                self._damage = self._damage or error
                yield raw.decode(encoding, "replace")

    def _took(self) -> None:
        """Count the lines of the record as read."""
        self.at = self._line
        self._line += len(self._record)
        self._offset += sum(map(len, self._record))

    def _first_line(self, reason: str) -> Flaw:
        """The record's first line as a bad row; the others are read again."""
        self._again.extendleft(reversed(self._record[1:]))
        del self._record[1:]
        self._took()
        self._row += 1
        return self._flaw(reason)

    def _flaw(self, reason: str) -> Flaw:
        raw = b"".join(self._record).decode(self._encoding, "replace").rstrip("\r\n")
        return Flaw(reason, raw, self.at)

    def _checked(self, cells: Sequence[str]) -> Mapping[str, Any] | Flaw:
        """The row, unless it is bad."""
        width = len(self._columns)
        if self._damage is not None:
            byte = self._damage.object[self._damage.start]
            return self._flaw(f"the byte 0x{byte:02x} is no {self._encoding}; save it anew")
        if self._lines.is_suspicious and (reason := self._lines.flaw_of("".join(cells))):
            return self._flaw(reason)
        if len(cells) != width:
            more = "more" if len(cells) > width else "fewer"
            quotes = "; a cell with a delimiter needs quotes" if len(cells) > width else ""
            return self._flaw(f"{len(cells)} cells, {more} than the header's {width}{quotes}")
        return dict(zip(self._columns, cells, strict=True))

    def _swallows_rows(self) -> bool:
        """Whether the lines of a record of several look like rows of their own.

        Each has the delimiters of a row, and either begins as the first does, with an id of the same form, or
        there are too many for chance.
        """
        delimiter = self._dialect.delimiter.encode(self._encoding)
        first, *others = self._record
        wanted = len(self._columns) - 1
        if not wanted or any(line.count(delimiter) != wanted for line in self._record):
            return False
        form = _form(first.partition(delimiter)[0])
        if "9" in form and all(_form(line.partition(delimiter)[0]) == form for line in others):
            return True
        return (len(others) - 1) * wanted >= _EVIDENCE


def _form(cell: bytes) -> str:
    """A cell with runs of digits as 9, of letters as a."""
    text = cell[:64].decode("utf-8", "replace")
    return _RUNS[1].sub("a", _RUNS[0].sub("9", text))


def _reason(error: csv.Error, lines: int) -> str:
    if str(error) == _TOO_LONG:
        return _TOO_LONG
    if "unexpected end of data" in str(error):
        return "a quote is not closed up to the end of the file"
    if lines > 1:
        return f"a quote is not closed: {lines} lines on, another one stands inside a cell"
    if "expected after" in str(error):
        return "a quote inside a cell in quotes is not doubled"
    return f"no CSV ({error})"


def header_of(
    lines: Lines, dialect: Dialect, encoding: str, name: str, *, fixed: bool = True
) -> tuple[tuple[str, ...], Place]:
    """The columns, and where the first row begins; takes the header's lines.

    Raises:
        ListingsError: There is no header, it is damaged, has too many columns, or two of one name.
        UnicodeDecodeError: With ``fixed`` false, it is in another encoding.
    """
    taken: list[bytes] = []

    def texts() -> Iterator[str]:
        for raw in lines:
            taken.append(raw)
            if sum(map(len, taken)) > _LONGEST_HEADER:
                raise csv.Error(f"it goes on over {_LONGEST_HEADER >> 20} MiB")
            text = raw.removeprefix(codecs.BOM_UTF8).decode(encoding)
            if len(taken) > 1 or not SEPARATOR_LINE.fullmatch(text):
                yield text

    try:
        cells = next(filter(None, csv.reader(texts(), **dialect.settings())), [])
    except csv.Error as error:
        raise ListingsError(f"{name}: the header is no CSV ({error}); repair its quotes") from error
    except UnicodeDecodeError as error:
        if not fixed:
            raise
        raise ListingsError(f"{name}: the header is not in {encoding} ({error}); save it anew") from error
    if not any(cell.strip() for cell in cells):
        raise ListingsError(f"{name}: has no header; its first line names the columns")
    named = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
    check_columns(name, named)
    return tuple(named), Place(sum(map(len, taken)), len(taken) + 1, 0)


def sample_of(head: bytes, encoding: str, *, whole: bool) -> list[str]:
    """Whole lines of the first bytes of a file, decoded; ``whole``: these are all its bytes."""
    lines = head.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    if not whole and len(lines) > 1:
        lines.pop()
    texts = [line.decode(encoding, "replace") for line in lines]
    # Blank lines before the header are none.
    while texts and not texts[0].strip():
        texts.pop(0)
    return texts
