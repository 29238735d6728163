# SPDX-License-Identifier: Apache-2.0
"""Compute the histogram of votes larger than memory, a batch of rows at a time."""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quorum.votes.duplicates import DuplicateCheck
from quorum.votes.read import BATCH_ROWS, read_coded, read_members, unit_of
from quorum.votes.schema import VotesError, check_members, how_to_keep_one
from quorum.votes.statistic import Statistic


def read_statistic(
    paths: str | Path | Sequence[str | Path],
    *,
    members: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Statistic:
    """Compute the histogram of votes for ``learn_statistic``, holding at most one batch in memory.

    A file of columns needs the texts ``product`` and ``attribute``, and one per member (null: it abstained);
    it may have ``category``, ``title``, and ``gold``: text, or a list of texts. Memory: a batch, the
    dictionaries of one row group, the labelled cells if they have titles, and the histogram, whose size
    depends on patterns, attributes and categories, not on the number of rows. JSON lines take thirty times
    longer.

    Every (product, attribute) must be unique; the check writes 16 bytes per cell to the temporary directory
    (:mod:`quorum.votes.duplicates`). ``products`` counts runs of rows of one product, so a product with
    scattered rows counts more than once.

    Args:
        paths: Votes tables in any format, see :func:`quorum.votes.read_votes`.
        members: Which members, in which order; None: all of the first file.
        batch_rows: Rows per batch.

    Raises:
        VotesError: No file, an unreadable one, a missing column, one of another type, a row without
            product or attribute, or a duplicate (product, attribute).
    """
    files, names = _inputs(paths, members)
    with DuplicateCheck() as seen:
        reducer = _Reducer(names, seen)
        for file in files:
            reducer.add(file, batch_rows)
        reducer.check_duplicates()
    return reducer.statistic()


def read_statistic_ray(
    paths: str | Path | Sequence[str | Path],
    *,
    members: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
    address: str | None = None,
) -> Statistic:
    """Run :func:`read_statistic` with one Ray task per file and add up the histograms.

    Every task checks its own file for duplicates; duplicates across files are not detected. Every worker has
    to find the files under the same path. ``address`` is that of a Ray cluster; None: the connected one, else
    a temporary one on this machine.

    Raises:
        VotesError: Ray is not installed, or as in :func:`read_statistic`.
    """
    files, names = _inputs(paths, members)
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise VotesError(
            "reading with Ray needs it installed: pip install 'quorum[ray]', or use read_statistic"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(read_statistic)
        pending = [task.remote(str(file), members=names, batch_rows=batch_rows) for file in files]
        total: Statistic = functools.reduce(operator.add, map(ray.get, pending))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VotesError):
            raise error.cause from error
        raise
    finally:
        if ours:
            ray.shutdown()
    return total


class _Reducer:
    """Adds up batches; rows are counted over all files."""

    def __init__(self, members: tuple[str, ...], seen: DuplicateCheck) -> None:
        self.members, self.seen = members, seen
        self.starts: list[tuple[int, Path]] = []
        self.layers: list[Statistic] = []
        self.rows = self.products = 0
        self.last: str | None = None

    def add(self, path: Path, batch_rows: int) -> None:
        self.starts.append((self.rows, path))
        for numbers, votes in read_coded(path, self.members, batch_rows):
            self.seen.add(votes, self.rows)
            self.rows += len(numbers)
            first, last = (votes.product_names[votes.products[at]] for at in (0, -1))
            self.products += int((votes.products[1:] != votes.products[:-1]).sum()) + (first != self.last)
            self.last = last
            # Merged by size: adding each batch to the total would take quadratic time.
            self.layers.append(votes.statistic())
            while len(self.layers) > 1 and _size(self.layers[-2]) <= 2 * _size(self.layers[-1]):
                self.layers[-2:] = [self.layers[-2] + self.layers[-1]]

    def check_duplicates(self) -> None:
        for earlier, later in self.seen.pairs():
            (old, first), (place, second) = self._cell(earlier), self._cell(later)
            if first == second:
                tables = dict.fromkeys(self._file(row)[1] for row in (earlier, later))
                raise VotesError(
                    f"{place}: product {second[0]!r}, attribute {second[1]!r} stood in {old} already; "
                    f"{how_to_keep_one(*tables)}"
                )

    def _file(self, row: int) -> tuple[int, Path]:
        """The file of a row, and its first row."""
        return next((start, path) for start, path in reversed(self.starts) if start <= row)

    def _cell(self, row: int) -> tuple[str, tuple[str, str]]:
        """Place and (product, attribute) of one row."""
        start, path = self._file(row)
        at = row - start
        for numbers, votes in read_coded(path, self.members, BATCH_ROWS):
            if at < len(numbers):
                cell = votes.product_names[votes.products[at]], votes.group_names[votes.groups[at]][1]
                return f"{path}, {unit_of(path)} {numbers[at]}", cell
            at -= len(numbers)
        raise VotesError(f"{path}: was cut while it was read; read it again")

    def statistic(self) -> Statistic:
        if not self.layers:
            raise VotesError(
                f"{self.starts[0][1]}: no votes; a line or row per product and attribute is needed"
            )
        return replace(functools.reduce(operator.add, self.layers), products=self.products)


def _size(part: Statistic) -> int:
    return len(part.hist.counts)


def _inputs(
    paths: str | Path | Sequence[str | Path], members: Sequence[str] | None
) -> tuple[list[Path], tuple[str, ...]]:
    """The files, and the members to read."""
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise VotesError("no file of votes given")
    names = tuple(members) if members is not None else read_members(files[0])
    check_members(names, files[0])
    return files, names
