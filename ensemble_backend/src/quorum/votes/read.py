# SPDX-License-Identifier: Apache-2.0
"""Read votes tables from JSON lines, Parquet and Arrow: as a table, as rows, as codes, or only members."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quorum.votes.jsonl import Row, parse_rows, read_lines
from quorum.votes.schema import Cell, VotesError, how_to_keep_one, is_columnar
from quorum.votes.table import CodedVotes, VotesTable, build_table

if TYPE_CHECKING:
    from quorum.votes.columns import ColumnsFile

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
    return _collect(read_rows(source), str(source), unit_of(source))


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
        yield from open_columns(source).rows(BATCH_ROWS, identified)
    else:
        yield from parse_rows(read_lines(source), str(source), identified)


def read_coded(
    path: Path, members: tuple[str, ...], batch_rows: int
) -> Iterator[tuple[Sequence[int], CodedVotes]]:
    """Read the votes of these members as codes, ``batch_rows`` rows at most at once.

    Yields:
        The number of each row or line in the file, and the votes.

    Raises:
        VotesError: As :func:`read_votes`, but for duplicates; or a member has no votes.
    """
    if is_columnar(path):
        yield from open_columns(path).coded(members, batch_rows)
        return
    rows = read_rows(path)
    while batch := list(itertools.islice(rows, batch_rows)):
        known = batch[0].members
        missing = sorted(set(members) - set(known))
        if missing:
            raise VotesError(f"{path}: votes of {missing} are missing; recorded are: {', '.join(known)}")
        places = [known.index(name) for name in members]
        table = build_table(members, [row.cell.of_members(places) for row in batch])
        yield [row.number for row in batch], table.coded()


def read_members(path: str | Path) -> tuple[str, ...]:
    """Read the names of the members only; raises VotesError as :func:`read_votes`, for the first row."""
    source = Path(path)
    if is_columnar(source):
        return open_columns(source).members()
    for row in read_rows(source):
        return row.members
    raise _no_votes(str(source))


def count_rows(path: str | Path) -> int:
    """Number of rows, or lines, of a file, for progress; raises VotesError if it is unreadable."""
    source = Path(path)
    return len(open_columns(source)) if is_columnar(source) else sum(1 for _ in read_lines(source))


def is_large(path: str | Path) -> bool:
    """Whether a file states over :data:`LARGE` cells, as only columns do; raises VotesError if unreadable."""
    source = Path(path)
    return is_columnar(source) and len(open_columns(source)) > LARGE


def unit_of(path: Path) -> str:
    """What the numbers of rows count: lines or rows."""
    return "row" if is_columnar(path) else "line"


def open_columns(path: Path) -> ColumnsFile:
    """Open Parquet or Arrow; raises VotesError if it is unreadable, or pyarrow is not installed."""
    check_pyarrow(path)
    from quorum.votes.columns import ColumnsFile

    return ColumnsFile(path)


def check_pyarrow(path: Path) -> None:
    """Raise VotesError if pyarrow, which a file of columns needs, is not installed."""
    try:
        importlib.import_module("quorum.votes.columns")
    except ImportError as error:
        raise VotesError(
            f"{path}: votes in Parquet or Arrow files need pyarrow: pip install 'quorum[arrow]'"
        ) from error


def _collect(rows: Iterable[Row], source: str, unit: str) -> VotesTable:
    members: tuple[str, ...] = ()
    cells: list[Cell] = []
    seen: dict[tuple[str, str], int] = {}
    for number, members, cell, *_ in rows:  # noqa: B007  (the members of the last row are those of all)
        first = seen.setdefault((cell.product, cell.attribute), number)
        if first != number:
            raise VotesError(
                f"{source}, {unit} {number}: product {cell.product!r}, attribute {cell.attribute!r} stood on "
                f"{unit} {first} already; {how_to_keep_one(source)}"
            )
        cells.append(cell)
    if not cells:
        raise _no_votes(source)
    return build_table(members, cells)


def _no_votes(source: str) -> VotesError:
    return VotesError(f"{source}: no votes; a line or row per product and attribute is needed")
