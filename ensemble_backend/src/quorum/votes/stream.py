# SPDX-License-Identifier: Apache-2.0
"""Compute the histogram of votes larger than memory, a batch of rows at a time."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.histogram import Histogram, histogram
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, Codes
from quorum.votes.duplicates import DuplicateCheck
from quorum.votes.read import BATCH_ROWS, columns, read_members, read_rows
from quorum.votes.schema import Cell, VotesError, check_members, is_columnar
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable, build_table

Names = tuple[Sequence[str], npt.NDArray[np.int64]]
"""Distinct texts, and the (n,) index of each row's text."""


def read_statistic(
    paths: str | Path | Sequence[str | Path],
    *,
    members: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Statistic:
    """Compute the histogram of votes, holding at most one batch in memory.

    A file of columns has the text columns ``product``, ``attribute`` and optionally ``category``, one text
    column per member (null: the member abstained) and optionally ``gold``: text, or a list of acceptable
    texts (null or empty: no gold). ``title`` is not read. Memory: one batch, the dictionaries of one row
    group, and the histogram, whose size depends on patterns, attributes and categories, not on the number of
    rows. JSON lines are read a batch at a time too, some thirty times slower.

    Every (product, attribute) must be unique; the check writes 16 bytes per cell to the temporary directory
    (:mod:`quorum.votes.duplicates`). ``products`` counts runs of rows of one product, so a product with
    scattered rows counts more than once.

    Args:
        paths: Votes tables in any format, see :func:`quorum.votes.read_votes`.
        members: Which members, in which order; None: all of the first file.
        batch_rows: Rows per batch.

    Returns:
        The statistic, equal to that of the same votes in memory; give it to
        :func:`quorum.learning.learn.learn_statistic`.

    Raises:
        VotesError: No file, an unreadable one, a missing column, one of another type, a row without
            product or attribute, or a duplicate (product, attribute).
    """
    files = _files(paths)
    names = _names(files[0], members)
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

    Every task checks its own file for duplicates; duplicates across files are not detected.

    Args:
        paths: Files that every worker can open under the same path.
        members: See :func:`read_statistic`.
        batch_rows: See :func:`read_statistic`.
        address: Of a Ray cluster; None: the connected one, else a temporary one on this machine.

    Returns:
        The same statistic as :func:`read_statistic`.

    Raises:
        VotesError: Ray is not installed, or as in :func:`read_statistic`.
    """
    files = _files(paths)
    names = _names(files[0], members)
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(_statistic_of)
        pending = [task.remote(str(file), names, batch_rows) for file in files]
        total: Statistic | None = None
        while pending:
            done, pending = ray.wait(pending)
            part: Statistic = ray.get(done[0])
            total = part if total is None else total + part
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VotesError):
            raise error.cause from error
        raise
    finally:
        if ours:
            ray.shutdown()
    assert total is not None
    return total


class _Reducer:
    """Adds up batches; group ids are in order of appearance and sorted at the end."""

    def __init__(self, members: tuple[str, ...], seen: DuplicateCheck) -> None:
        self.members = members
        self.seen = seen
        self.starts: list[tuple[int, Path]] = []
        self.rows = 0
        self.index: dict[tuple[str, str], int] = {}
        self.cells, self.gold = _Pile(), _Pile()
        self.products = 0
        self.last: str | None = None

    def add(self, path: Path, batch_rows: int) -> None:
        start = self.rows
        self.starts.append((start, path))
        if not is_columnar(path):
            for table in _tables(path, self.members, batch_rows):
                self._add_table(table)
                self.rows += len(table)
            return
        module = columns(path)
        wanted = (*module.CODED_COLUMNS, *self.members)
        required = ("product", "attribute", *self.members)
        for batch in module.batches(path, wanted, batch_rows, required):
            self._add_batch(module, batch, module.Place(path, self.rows - start))
            self.rows += len(batch)

    def check_duplicates(self) -> None:
        for earlier, later in self.seen.pairs():
            (old, first), (place, second) = self._cell(earlier), self._cell(later)
            if first == second:
                raise VotesError(
                    f"{place}: product {second[0]!r}, attribute {second[1]!r} stood in {old} already; keep "
                    "one of the two"
                )

    def _cell(self, row: int) -> tuple[str, tuple[str, str]]:
        """Place and (product, attribute) of one row, counted over all files."""
        start, path = next((start, path) for start, path in reversed(self.starts) if start <= row)
        at = row - start
        if is_columnar(path):
            cell = columns(path).cell_at(path, at, BATCH_ROWS)
            if cell:
                return f"{path}, row {at + 1}", cell
        else:
            for record in itertools.islice(read_rows(path), at, None):
                return f"{path}, line {record.number}", (record.cell.product, record.cell.attribute)
        raise VotesError(f"{path}: was cut while it was read; read it again")

    def statistic(self) -> Statistic:
        hist, gold = self.cells.total(), self.gold.total()
        if hist is None:
            raise VotesError("no votes in the files; a row per product and attribute is needed")
        names = tuple(sorted(self.index))
        rank = {name: i for i, name in enumerate(names)}
        order = np.array([rank[name] for name in self.index], np.int32)
        if gold is not None:
            gold = gold.regrouped(order)
        return Statistic(self.members, names, hist.regrouped(order), self.products, gold)

    def _add_table(self, table: VotesTable) -> None:
        products = list(dict.fromkeys(cell.product for cell in table.cells))
        runs = int((table.products[1:] != table.products[:-1]).sum())
        self._count_products(runs, table.cells[0].product, table.cells[-1].product)
        attributes = [attribute for _, attribute in table.group_names], table.groups.astype(np.int64)
        self.seen.add((products, table.products), attributes, self.rows)
        ids = np.array([self._group(name) for name in table.group_names], np.int32)
        rows = np.flatnonzero(table.right >= 0)
        self._count(table.codes, ids[table.groups], table.right, rows, table.parts[rows])

    def _add_batch(self, module: Any, batch: Any, place: Any) -> None:
        product = module.texts_of(batch.column("product"), "product", place, required=True)
        self._count_products(module.changes(product), product[0].as_py(), product[-1].as_py())
        attributes = module.dictionary_of(batch, "attribute", place, required=True)
        encoded = product.dictionary_encode()
        cells = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
        self.seen.add(cells, attributes, self.rows)
        codes, right = module.encode(batch, self.members, place)
        if "category" in batch.schema.names:
            categories = module.dictionary_of(batch, "category", place, required=False)
        else:
            categories = [""], np.zeros(len(batch), np.int64)
        groups = self._groups(categories, attributes)
        rows = np.flatnonzero(right >= 0) if right is not None else np.zeros(0, np.int64)
        parts = np.full(len(rows), ABSTAIN, codes.dtype)
        if len(self.members) < MAX_MEMBERS:
            parts = module.part_codes(batch.take(rows), codes[rows], self.members)
        self._count(codes, groups, right, rows, parts)

    def _count(
        self,
        codes: Codes,
        groups: npt.NDArray[np.int32],
        right: npt.NDArray[np.int64] | None,
        rows: npt.NDArray[np.int64],
        parts: Codes,
    ) -> None:
        """Add the cells, and again the labelled ``rows`` of them, with the code of their part."""
        self.cells.add(histogram(codes, groups, right))
        if len(self.members) < MAX_MEMBERS:
            own = np.zeros(0, np.int64) if right is None else right[rows]
            self.gold.add(histogram(np.column_stack([codes[rows], parts]), groups[rows], own))

    def _count_products(self, changes: int, first: str, last: str) -> None:
        self.products += changes + (first != self.last)
        self.last = last

    def _group(self, name: tuple[str, str]) -> int:
        return self.index.setdefault(name, len(self.index))

    def _groups(self, categories: Names, attributes: Names) -> npt.NDArray[np.int32]:
        (names, category), (own, attribute) = categories, attributes
        pairs, inverse = np.unique(category * len(own) + attribute, return_inverse=True)
        ids = np.empty(len(pairs), np.int32)
        for i, pair in enumerate(pairs.tolist()):
            ids[i] = self._group((names[pair // len(own)], own[pair % len(own)]))
        return np.asarray(ids[inverse.reshape(-1)])


class _Pile:
    """A sum of histograms, merged by size: adding each to the total would take quadratic time."""

    def __init__(self) -> None:
        self.layers: list[Histogram] = []

    def add(self, hist: Histogram) -> None:
        self.layers.append(hist)
        while len(self.layers) > 1 and len(self.layers[-2].counts) <= 2 * len(self.layers[-1].counts):
            self._merge()

    def total(self) -> Histogram | None:
        while len(self.layers) > 1:
            self._merge()
        return self.layers[0] if self.layers else None

    def _merge(self) -> None:
        last = self.layers.pop()
        self.layers[-1] = self.layers[-1] + last


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise VotesError("no file of votes given")
    return files


def _names(path: Path, members: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(members) if members is not None else read_members(path)
    if is_columnar(path):
        columns(path).checked(names, path)
    else:
        check_members(names)
    return names


def _tables(path: Path, members: tuple[str, ...], batch_rows: int) -> Iterator[VotesTable]:
    """Read JSON lines as tables of ``batch_rows`` cells, with the given members."""
    rows = read_rows(path)
    while batch := list(itertools.islice(rows, batch_rows)):
        known = batch[0].members
        missing = sorted(set(members) - set(known))
        if missing:
            raise VotesError(f"{path}: votes of {missing} are missing; recorded are: {', '.join(known)}")
        places = [known.index(name) for name in members]
        yield build_table(members, [_with_values(row.cell, places) for row in batch])


def _with_values(cell: Cell, places: Sequence[int]) -> Cell:
    return replace(cell, values=tuple(cell.values[i] for i in places))


def _statistic_of(path: str, members: tuple[str, ...], batch_rows: int) -> Statistic:
    return read_statistic(path, members=members, batch_rows=batch_rows)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise VotesError(
            "reading with Ray needs it installed: pip install 'quorum[ray]', or use read_statistic"
        ) from error
