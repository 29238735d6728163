# SPDX-License-Identifier: Apache-2.0
"""Write votes tables as JSON lines, Parquet or Arrow, at once or row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorum.files import replacing
from quorum.votes.jsonl import NO_FIELDS, LinesSink
from quorum.votes.read import check_pyarrow
from quorum.votes.schema import ENDINGS, LINE_SUFFIXES, Cell, VotesError, check_members, is_columnar
from quorum.votes.table import VotesTable

if TYPE_CHECKING:
    from quorum.votes.column_sink import ColumnsSink


def check_target(path: str | Path) -> None:
    """Refuse, by VotesError, a name that votes cannot be written to; without a suffix it is JSON lines."""
    target = Path(path)
    if is_columnar(target):
        check_pyarrow(target)
    elif target.suffix and target.suffix not in LINE_SUFFIXES:
        raise VotesError(f"{target}: cannot tell the format of the votes from {target.suffix!r}; {ENDINGS}")


class VotesWriter:
    """Writes a votes table row by row, in the format of the file's ending; a context manager.

    A row of JSON lines is on disk at once. Columns are written in row groups, and the file is readable once
    it is closed, which the context manager does on an exception and on Ctrl-C too; so are JSON lines that are
    ``buffered``.

    Raises:
        OSError: The file cannot be opened.
        VotesError: See :func:`check_target`.
    """

    def __init__(self, path: str | Path, *, buffered: bool = False) -> None:
        self._path = Path(path)
        check_target(self._path)
        self._members: tuple[str, ...] = ()
        self._sink = _open_sink(self._path, buffered=buffered)

    def write(self, cell: Cell, members: Sequence[str], extra: Mapping[str, Any] = NO_FIELDS) -> None:
        """Write one row; ``members`` are those of the cell's values, ``extra`` other fields of a line.

        Raises VotesError for other members than those of the first row, names that no column can have, or
        ``extra`` where the file has no place for it.
        """
        if not self._members:
            if is_columnar(self._path):
                check_members(members, self._path)
            self._members = tuple(members)
        if tuple(members) != self._members:
            if sorted(members) != sorted(self._members):
                raise VotesError(
                    f"{self._path}: votes of {', '.join(members)} after votes of {', '.join(self._members)}; "
                    "a table has one set of members: write these to another file"
                )
            cell = cell.of_members([members.index(name) for name in self._members])
        if not extra:
            self._sink.write(cell, self._members)
        elif isinstance(self._sink, LinesSink):
            self._sink.write(cell, self._members, extra)
        else:
            raise VotesError(
                f"the fields {sorted(extra)} of {cell.product!r}, {cell.attribute!r} have no place in a file "
                "of columns; write JSON lines (.jsonl), which keep them"
            )

    @property
    def has_rows(self) -> bool:
        """Whether a row was written."""
        return bool(self._members)

    def close(self) -> None:
        """Write buffered rows and close the file."""
        self._sink.close()

    def __enter__(self) -> VotesWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


@contextmanager
def replacing_votes(path: str | Path) -> Iterator[VotesWriter]:
    """Yield a writer of a table that replaces ``path`` when the block ends, and is dropped when it raises."""
    target = Path(path)
    check_target(target)
    with replacing(target) as temporary, VotesWriter(temporary, buffered=True) as writer:
        yield writer


def write_votes(table: VotesTable, path: str | Path, *, row_group_rows: int | None = None) -> None:
    """Write a table atomically, for :func:`quorum.votes.read_votes`.

    Args:
        table: The votes.
        path: Its ending names the format, see :func:`check_target`.
        row_group_rows: Cells per row group; None: as :class:`VotesWriter`.

    Raises:
        OSError: The file cannot be written.
        VotesError: An ending of no format, or a member named as a column with another meaning.
    """
    target = Path(path)
    check_target(target)
    if is_columnar(target):
        check_members(table.members, target)
    with (
        replacing(target) as temporary,
        closing(_open_sink(temporary, row_group_rows, buffered=True)) as sink,
    ):
        for cell in table.cells:
            sink.write(cell, table.members)


def _open_sink(
    path: Path, row_group_rows: int | None = None, buffered: bool = False
) -> LinesSink | ColumnsSink:
    if not is_columnar(path):
        return LinesSink(path, buffered)
    from quorum.votes.column_sink import ColumnsSink

    return ColumnsSink(path, row_group_rows)
