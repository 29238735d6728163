# SPDX-License-Identifier: Apache-2.0
"""Votes larger than memory: the histogram of Parquet and Arrow files, read a batch of rows at a time."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.histogram import Histogram, histogram
from quorum.decision.patterns import MAX_MEMBERS
from quorum.votes.columns import (
    Place,
    StreamError,
    batches,
    changes,
    checked,
    dictionary_of,
    encode,
    member_columns,
    part_codes,
    texts_of,
)
from quorum.votes.duplicates import DuplicateCheck
from quorum.votes.statistic import Statistic

BATCH_ROWS = 1 << 16
"""Rows held at once; the peak of memory grows with it, see docs/adr/0018."""


def read_statistic(
    paths: str | Path | Sequence[str | Path],
    *,
    members: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Statistic:
    """Histogram of votes in columns, without ever holding more than a batch of them.

    A file has the text columns ``product``, ``attribute`` and, if wanted, ``category``, one text column per
    member (null: the member abstained) and, if wanted, ``gold``: text, or a list of acceptable texts (null or
    empty: no gold). ``title`` is not read. Memory: one batch, the dictionaries of one row group, and the
    histogram, whose size depends on patterns, attributes and categories, not on the number of rows.

    A (product, attribute) may stand in the files once only; to know that, 16 bytes per cell are written to
    the temporary directory while reading (:mod:`quorum.votes.duplicates`). ``products`` counts runs of rows
    of one product, so a product whose rows are not next to each other counts more than once.

    Args:
        paths: Parquet files, or Arrow IPC files (.arrow, .feather, .ipc).
        members: Names and order of the member columns; None: every column of the first file that has no other
            meaning.
        batch_rows: Rows per batch.

    Returns:
        The statistic, equal to that of the same votes in memory; give it to
        :func:`quorum.learning.learn.learn_statistic`.

    Raises:
        StreamError: No file, an unreadable one, a missing column, one of another type, a row without
            product or attribute, or a (product, attribute) that stood in an earlier row or file.
    """
    files = _files(paths)
    names = tuple(members) if members is not None else member_columns(files[0])
    with DuplicateCheck() as seen:
        reducer = _Reducer(checked(names, files[0]), seen)
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
    """:func:`read_statistic` with one Ray task per file; the histograms, which are small, are added up here.

    Every task looks for duplicate cells in its own file; that no cell stands in two files is taken on trust.

    Args:
        paths: Files that every worker can open under the same path.
        members: See :func:`read_statistic`.
        batch_rows: See :func:`read_statistic`.
        address: Of a Ray cluster; None: the one that is connected already, else one on this machine, which is
            shut down again.

    Returns:
        The same statistic as :func:`read_statistic`.

    Raises:
        StreamError: Ray is not installed, or as in :func:`read_statistic`.
    """
    files = _files(paths)
    names = checked(tuple(members) if members is not None else member_columns(files[0]), files[0])
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
        if isinstance(error.cause, StreamError):
            raise error.cause from error
        raise
    finally:
        if ours:
            ray.shutdown()
    assert total is not None
    return total


class _Reducer:
    """Adds up batches; group ids are given in order of appearance and sorted at the end."""

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
        for batch in batches(path, self.members, batch_rows):
            self._add_batch(batch, Place(path, self.rows - start))
            self.rows += len(batch)

    def check_duplicates(self) -> None:
        for earlier, later in self.seen.pairs():
            (old, first), (place, second) = self._cell(earlier), self._cell(later)
            if first == second:
                raise place.error(
                    f"product {second[0]!r}, attribute {second[1]!r} stood in {old.path}, row {old.row + 1} "
                    "already; keep one of the two",
                    0,
                )

    def _cell(self, row: int) -> tuple[Place, tuple[str, str]]:
        """Place and (product, attribute) of one row, counted over all files."""
        start, path = next((start, path) for start, path in reversed(self.starts) if start <= row)
        at = row - start
        for batch in batches(path, (), BATCH_ROWS):
            if at < len(batch):
                product, attribute = (batch.column(name)[at].as_py() for name in ("product", "attribute"))
                return Place(path, row - start), (product, attribute)
            at -= len(batch)
        raise StreamError(f"{path}: was cut while it was read; read it again")

    def statistic(self) -> Statistic:
        hist, gold = self.cells.total(), self.gold.total()
        if hist is None:
            raise StreamError("no votes in the files; a row per product and attribute is needed")
        names = tuple(sorted(self.index))
        rank = {name: i for i, name in enumerate(names)}
        order = np.array([rank[name] for name in self.index], np.int32)
        if gold is not None:
            gold = gold.regrouped(order)
        return Statistic(self.members, names, hist.regrouped(order), self.products, gold)

    def _add_batch(self, batch: Any, place: Place) -> None:
        product = texts_of(batch.column("product"), "product", place, required=True)
        self.products += changes(product)
        self.products += product[0].as_py() != self.last
        self.last = product[-1].as_py()
        attributes = dictionary_of(batch, "attribute", place, required=True)
        encoded = product.dictionary_encode()
        cells = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
        self.seen.add(cells, attributes, self.rows)
        codes, right = encode(batch, self.members, place)
        groups = self._groups(batch, attributes, place)
        self.cells.add(histogram(codes, groups, right))
        if len(self.members) < MAX_MEMBERS:
            rows = np.flatnonzero(right >= 0) if right is not None else np.zeros(0, np.int64)
            parts = part_codes(batch.take(rows), codes[rows], self.members)
            own = np.zeros(0, np.int64) if right is None else right[rows]
            self.gold.add(histogram(np.column_stack([codes[rows], parts]), groups[rows], own))

    def _groups(
        self, batch: Any, named: tuple[list[str], npt.NDArray[np.int64]], place: Place
    ) -> npt.NDArray[np.int32]:
        attributes, attribute = named
        if "category" in batch.schema.names:
            categories, category = dictionary_of(batch, "category", place, required=False)
        else:
            categories, category = [""], np.zeros(len(batch), np.int64)
        pairs, inverse = np.unique(category * len(attributes) + attribute, return_inverse=True)
        ids = np.empty(len(pairs), np.int32)
        for i, pair in enumerate(pairs.tolist()):
            name = (categories[pair // len(attributes)], attributes[pair % len(attributes)])
            ids[i] = self.index.setdefault(name, len(self.index))
        return np.asarray(ids[inverse.reshape(-1)])


class _Pile:
    """A sum of histograms; adding each to all before would take time with the square of their number."""

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
        raise StreamError("no file of votes given")
    return files


def _statistic_of(path: str, members: tuple[str, ...], batch_rows: int) -> Statistic:
    return read_statistic(path, members=members, batch_rows=batch_rows)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise StreamError(
            "reading with Ray needs it installed: pip install 'quorum[ray]', or use read_statistic"
        ) from error
