# SPDX-License-Identifier: Apache-2.0
"""Read votes tables from JSON lines, Parquet and Arrow: as a table, as rows, or only members and size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quorum.votes.jsonl import Row, parse_rows, read_lines
from quorum.votes.schema import Cell, VotesError, is_columnar
from quorum.votes.table import VotesTable, build_table

BATCH_ROWS = 1 << 16
"""Rows of columns held at once; the peak of memory grows with it, see docs/adr/0018."""
LARGE = 1 << 18
"""With more cells, learning reads columns in a stream: a table takes about 1 kB of memory per cell."""


def read_votes(path: str | Path) -> VotesTable:
    """Read a votes table: Parquet (.parquet), Arrow (.arrow, .feather, .ipc), or else JSON lines.

    A line is ``{"product", "category", "title", "attribute", "votes": {member: value or null}, "gold": []}``;
    category and title may be left out, gold may be left out, null or empty. In Parquet and Arrow every column
    with no other meaning is a member's; see :mod:`quorum.votes.schema`.

    Raises:
        VotesError: Unreadable, a newer schema version, or a row that is incomplete, has a value of the wrong
            type, other members than the first, or the (product, attribute) of an earlier row.
    """
    source = Path(path)
    return _collect(read_rows(source), str(source), "row" if is_columnar(source) else "line")


def parse_votes(lines: Iterable[str], source: str = "votes") -> VotesTable:
    """Read a votes table from lines of JSON; raises like :func:`read_votes`, ``source`` names the place."""
    return _collect(parse_rows(lines, source), source, "line")


def read_rows(path: str | Path, *, identified: bool = True) -> Iterator[Row]:
    """Read the rows of a votes table one by one, without a check for duplicates.

    Args:
        path: See :func:`read_votes`.
        identified: As in :func:`quorum.votes.jsonl.parse_rows`.

    Raises:
        VotesError: As :func:`read_votes`.
    """
    source = Path(path)
    if is_columnar(source):
        yield from columns(source).read_rows(source, BATCH_ROWS, identified)
    else:
        yield from parse_rows(read_lines(source), str(source), identified)


def read_members(path: str | Path) -> tuple[str, ...]:
    """Read the names of the members only.

    Raises:
        VotesError: As :func:`read_votes`, for the first row.
    """
    source = Path(path)
    if is_columnar(source):
        members: tuple[str, ...] = columns(source).member_columns(source)
        return members
    for row in read_rows(source):
        return row.members
    raise _no_votes(str(source))


def is_large(path: str | Path) -> bool:
    """Whether a file of columns has more than :data:`LARGE` cells; JSON lines do not state their number.

    Raises:
        VotesError: An unreadable file of columns.
    """
    source = Path(path)
    return is_columnar(source) and columns(source).count_rows(source) > LARGE


def columns(path: Path) -> Any:
    """Import the module for Parquet and Arrow, which needs pyarrow, to open ``path``.

    Raises:
        VotesError: pyarrow is not installed.
    """
    try:
        from quorum.votes import columns as module
    except ImportError as error:
        raise VotesError(f"{path}: {error}") from error
    return module


def _collect(rows: Iterable[Row], source: str, unit: str) -> VotesTable:
    members: tuple[str, ...] = ()
    cells: list[Cell] = []
    seen: dict[tuple[str, str], int] = {}
    for number, members, cell in rows:  # noqa: B007  (the members of the last row are those of all)
        first = seen.setdefault((cell.product, cell.attribute), number)
        if first != number:
            raise VotesError(
                f"{source}, {unit} {number}: product {cell.product!r}, attribute {cell.attribute!r} stood on "
                f"{unit} {first} already; keep one of the two"
            )
        cells.append(cell)
    if not cells:
        raise _no_votes(source)
    return build_table(members, cells)


def _no_votes(source: str) -> VotesError:
    return VotesError(f"{source}: no votes; a line or row per product and attribute is needed")
