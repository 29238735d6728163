# SPDX-License-Identifier: Apache-2.0
"""Detect the dialect of CSV: delimiter, quotes, escapes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quorum.bulk.inputs.options import NO_QUOTES, InputOptions

ONE_COLUMN = "\x1f"
"""Delimiter of a file of one column: the unit separator of ASCII, which texts do not hold."""
_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)", ONE_COLUMN: "nothing (one column)"}
_RECORDS = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect of CSV.

    Attributes:
        delimiter: Character between cells.
        quote: Character around cells, doubled inside; "": none.
        escape: Character before a quote inside a cell, instead of doubling it; "": none.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""

    def settings(self) -> dict[str, Any]:
        """Arguments of :func:`csv.reader`, which then refuses what is no CSV."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote or None,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "escapechar": self.escape or None,
            "doublequote": not self.escape,
            "strict": True,
        }

    def in_words(self) -> str:
        """Such as "cells separated by semicolons"."""
        words = f"cells separated by {_NAMES.get(self.delimiter, repr(self.delimiter))}"
        if self.quote != '"':
            words += f", quoted by {self.quote}" if self.quote else ", without quotes"
        return words + (f", {self.escape} before quotes in cells" if self.escape else "")


def detect_dialect(lines: Sequence[str], options: InputOptions, usual: str = ",") -> Dialect:
    """The dialect in which the first lines of a file make most sense.

    A delimiter counts if the header has it. Of the delimiters, ways to quote and escapes, the first one wins
    in which the fewest records are broken or have other cells than the header.

    Args:
        lines: Whole lines with their ends, the header first.
        options: What was given is not detected.
        usual: Delimiter that the name of the file suggests.
    """
    header = lines[0] if lines else ""
    order = dict.fromkeys((usual, *_DELIMITERS))
    given = options.separator
    delimiters = [given] if given else [mark for mark in order if mark in header] or [ONE_COLUMN]
    # It may be a character inside the quotes of the only column.
    if not given and _cells([header], Dialect(delimiters[0])) == [1]:
        delimiters.append(ONE_COLUMN)
    tried = [
        Dialect(delimiter, quote, escape)
        for delimiter in delimiters
        for quote, escape in _quoting(lines, delimiter, options.quote)
    ]
    return min(tried, key=lambda dialect: _problems(lines, dialect))


def _quoting(lines: Sequence[str], delimiter: str, given: str | None) -> list[tuple[str, str]]:
    """Quote and escape characters that are worth a try, the usual ones first."""
    if given == NO_QUOTES:
        return [("", "")]
    if given is None and _in_single_quotes(lines, delimiter):
        return [("'", "")]
    quote = given or '"'
    found = [(quote, "")]
    if any(f"\\{quote}" in line for line in lines):
        found.append((quote, "\\"))
    # Files with tabs or bars often have none. With commas that would hide a quote that is not closed.
    if given is None and delimiter in "\t|" and not any(_is_quoted(line, delimiter) for line in lines):
        found.append(("", ""))
    return found


def _is_quoted(line: str, delimiter: str) -> bool:
    """Whether a cell of the line stands in quotes as a whole."""
    return any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in line.rstrip("\r\n").split(delimiter))


def _in_single_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether cells stand in single quotes: most lines have one that begins so, and none a double quote."""
    begins = sum(line.startswith("'") or f"{delimiter}'" in line for line in lines)
    return 2 * begins > len(lines) and not any('"' in line for line in lines)


def _problems(lines: Sequence[str], dialect: Dialect) -> tuple[int, int]:
    """Records that do not fit the header, and fewer columns last."""
    widths = _cells(lines, dialect)
    width = widths[0] if widths else 0
    return sum(one != width for one in widths[1:]), -width


def _cells(lines: Sequence[str], dialect: Dialect) -> list[int]:
    """The number of cells of each record, -1 for a broken one."""
    rest, found = list(lines), list[int]()
    while rest and len(found) < _RECORDS:
        reader = csv.reader(rest, **dialect.settings())
        try:
            found += (len(cells) for cells in reader if cells)
            break
        except csv.Error:
            # A quote that is open at the end of the sample may be closed after it.
            if reader.line_num < len(rest):
                found.append(-1)
            rest = rest[reader.line_num :]
    return found
