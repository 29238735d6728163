# SPDX-License-Identifier: Apache-2.0
"""Write votes tables as Parquet or Arrow, in row groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from quorum.votes import score_column, usage_column
from quorum.votes.columns import VERSION_KEY
from quorum.votes.schema import (
    ARROW_SUFFIXES,
    ORIGIN_COLUMNS,
    SCHEMA_VERSION,
    SCORES_COLUMN,
    TEXT_COLUMNS,
    USAGE_COLUMN,
    Cell,
)

_ROW_GROUP_ROWS = 1 << 16


class ColumnsSink:
    """Writes cells as Parquet or Arrow, a row group at a time."""

    def __init__(self, path: Path, row_group_rows: int | None = None) -> None:
        self._path, self._group = path, row_group_rows or _ROW_GROUP_ROWS
        self._cells: list[Cell] = []
        self._members: tuple[str, ...] = ()
        self._writer: Any = None
        self._file = path.open("wb")

    def write(self, cell: Cell, members: Sequence[str]) -> None:
        """Write a cell; all of them are of the same members."""
        self._members = tuple(members)
        self._cells.append(cell)
        if len(self._cells) == self._group:
            self._flush()

    def close(self) -> None:
        """Write the buffered cells and the footer, which makes the file readable."""
        with self._file:
            if self._cells or self._writer is None:
                self._flush()
            self._writer.close()

    def _flush(self) -> None:
        cells, self._cells = self._cells, []
        table = _as_columns(cells, self._members)
        if self._writer is None:
            arrow = self._path.suffix in ARROW_SUFFIXES
            self._writer = (pa.ipc.new_file if arrow else pq.ParquetWriter)(self._file, table.schema)
        self._writer.write_table(table)


def _as_columns(cells: Sequence[Cell], members: tuple[str, ...]) -> Any:
    columns: dict[str, Any] = {
        name: pa.array([getattr(cell, name) for cell in cells], pa.string()) for name in TEXT_COLUMNS
    }
    columns["gold"] = pa.array([cell.gold for cell in cells], pa.list_(pa.string()))
    for j, name in enumerate(members):
        columns[name] = pa.array([cell.values[j] for cell in cells], pa.string())
    kinds = (pa.string(), pa.int64(), pa.float64(), pa.string())
    for name, kind in zip(ORIGIN_COLUMNS, kinds, strict=True):
        columns[name] = pa.array([getattr(cell.origin, name, None) for cell in cells], kind)
    # Always there: the columns of a file are fixed before all of its cells are known.
    if members:
        columns[SCORES_COLUMN] = score_column.as_column(cells, members)
        columns[USAGE_COLUMN] = usage_column.as_column(cells, members)
    return pa.table(columns, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})
