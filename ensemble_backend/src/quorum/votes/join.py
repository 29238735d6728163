# SPDX-License-Identifier: Apache-2.0
"""Join files of one kind end to end, without looking at the cells: votes tables, other files of columns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quorum.votes.schema import ARROW_SUFFIXES, VotesError, is_columnar
from quorum.votes.write import VotesWriter

GROUP_ROWS, GROUP_BYTES = 1 << 15, 1 << 25
"""Rows, or bytes in memory, from which on a row group is written."""


def join_votes(parts: Sequence[Path], path: Path) -> None:
    """Write a votes table with the cells of others, in order.

    Args:
        parts: Tables as :class:`quorum.votes.VotesWriter` writes them, in the format of ``path``, none empty.
        path: The file to write.

    Raises:
        OSError: It cannot be written.
        VotesError: Columnar ones have other columns than the first, as where members were added. Lines name
            their members each, so those of other members are joined as they are.
    """
    if not parts:
        VotesWriter(path).close()
    elif is_columnar(path):
        join_columns(parts, path)
    else:
        join_lines(parts, path)


def join_lines(parts: Sequence[Path], path: Path) -> None:
    """Write the lines of all files into one; raises OSError if it cannot be written."""
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)


def join_columns(parts: Sequence[Path], path: Path) -> None:
    """Write the rows of Parquet or Arrow files into one, in larger row groups; few are in memory.

    Raises:
        OSError: It cannot be written.
        VotesError: Their columns are not the same.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _read(parts[0]).schema
    new_file = pa.ipc.new_file if path.suffix in ARROW_SUFFIXES else pq.ParquetWriter
    with path.open("wb") as file, new_file(file, schema) as writer:
        for group in _groups(parts):
            writer.write_table(group)


def _groups(parts: Sequence[Path]) -> Iterator[Any]:
    import pyarrow as pa

    waiting: list[Any] = []
    for part in parts:
        table = _read(part)
        if waiting and table.schema != waiting[0].schema:
            raise VotesError(
                f"{part}: has other columns than the parts before it; were members added during the job? "
                "Write JSON lines, or begin the job anew"
            )
        waiting.append(table)
        if sum(map(len, waiting)) >= GROUP_ROWS or sum(one.nbytes for one in waiting) >= GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = [table.slice(0, 0)]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting).combine_chunks()


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix not in ARROW_SUFFIXES:
        return pq.read_table(path, use_threads=False, partitioning=None)
    with path.open("rb") as file:
        return pa.ipc.open_file(file).read_all()
