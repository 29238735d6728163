# SPDX-License-Identifier: Apache-2.0
"""What a cursor over the rows of one file offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from quorum.bulk.inputs.records import ListingsError

MOST_COLUMNS = 10_000
"""Columns of a table; where there are more, they are data."""


class Flaw(NamedTuple):
    """A row that cannot be read.

    Attributes:
        reason: What is wrong, and how to repair it.
        raw: Its text in the file.
        line: Line of the file that it begins on, from 1; 0 where the file has no lines.
    """

    reason: str
    raw: str
    line: int


class Place(NamedTuple):
    """Where a row begins.

    Attributes:
        offset: Byte in the file, after unpacking and decoding to UTF-8 where it is not read as it is; the row
            group, of Parquet.
        line: Its line, from 1; 0 where the file has no lines.
        row: Its number in the file, from 0.
    """

    offset: int
    line: int
    row: int


class Cursor(Protocol):
    """Reads rows in order.

    Where the encoding is not certain, one that is wrong raises UnicodeDecodeError.

    Attributes:
        at: Line of the file, from 1, that the row which was read last begins on; of Parquet its number.
    """

    at: int

    def __iter__(self) -> Iterator[Mapping[str, Any] | Flaw]:
        """The rows from the start on."""
        ...

    def place(self) -> Place:
        """Where the next row begins."""
        ...


def check_columns(name: str, columns: Sequence[str]) -> None:
    """Refuse columns of a file that are too many, or of which two have one name; raises ListingsError."""
    if len(columns) > MOST_COLUMNS:
        raise ListingsError(
            f"{name}: has {len(columns)} columns, {MOST_COLUMNS} are allowed; leave out those that are not "
            "needed, or is it of another format?"
        )
    column, times = max(Counter(columns).items(), key=lambda item: item[1], default=("", 0))
    if times > 1:
        raise ListingsError(f"{name}: has the column {column!r} twice; rename one")
