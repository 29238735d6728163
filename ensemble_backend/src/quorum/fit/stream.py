# SPDX-License-Identifier: Apache-2.0
"""Votes larger than memory: the histogram of Parquet and Arrow files, read a batch of rows at a time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.fit.duplicates import DuplicateCheck
from quorum.fit.statistic import Statistic
from quorum.fit.votes import VotesTable
from quorum.voting.histogram import UNLABELLED, Histogram, histogram
from quorum.voting.parts import find_part
from quorum.voting.patterns import ABSTAIN, MAX_MEMBERS, NA, Codes
from quorum.voting.single import NOT_APPLICABLE

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    raise ImportError(
        "votes in Parquet or Arrow files need pyarrow: pip install 'quorum[arrow]'"
    ) from missing

BATCH_ROWS = 1 << 16
"""Rows held at once. Ten million cells of five members: 200 MB at the peak, 72 MB of them imports."""
TABLE_COLUMNS = ("product", "category", "title", "attribute", "gold")
_ARROW_SUFFIXES = {".arrow", ".feather", ".ipc"}
_FILE_BUFFER = 1 << 20


class StreamError(ValueError):
    """A file of votes cannot be used; the message names file, row and column and what to do."""


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
    the temporary directory while reading (:mod:`quorum.fit.duplicates`). ``products`` counts runs of rows of
    one product, so a product whose rows are not next to each other counts more than once.

    Args:
        paths: Parquet files, or Arrow IPC files (.arrow, .feather, .ipc).
        members: Names and order of the member columns; None: every column of the first file that has no other
            meaning.
        batch_rows: Rows per batch.

    Returns:
        The statistic, equal to that of the same votes in memory; give it to
        :func:`quorum.fit.learn.learn_statistic`.

    Raises:
        StreamError: No file, an unreadable one, a missing column, one of another type, a row without
            product or attribute, or a (product, attribute) that stood in an earlier row or file.
    """
    files = _files(paths)
    names = tuple(members) if members is not None else _member_columns(files[0])
    with DuplicateCheck() as seen:
        reducer = _Reducer(_checked(names, files[0]), seen)
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
    names = _checked(tuple(members) if members is not None else _member_columns(files[0]), files[0])
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


def write_parquet(table: VotesTable, path: str | Path, row_group_rows: int = BATCH_ROWS) -> None:
    """Write a votes table in columns, so that :func:`read_statistic` gives its statistic.

    Raises:
        StreamError: A member has the name of a column with another meaning.
    """
    _checked(table.members, Path(path))
    cells = table.cells
    columns: dict[str, Any] = {
        name: pa.array([getattr(cell, name) for cell in cells], pa.string())
        for name in ("product", "category", "title", "attribute")
    }
    columns["gold"] = pa.array([list(cell.gold) for cell in cells], pa.list_(pa.string()))
    for j, name in enumerate(table.members):
        columns[name] = pa.array([cell.values[j] for cell in cells], pa.string())
    pq.write_table(pa.table(columns), path, row_group_size=row_group_rows)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a batch stands, for messages."""

    path: Path
    row: int

    def error(self, message: str, offset: int | None = None) -> StreamError:
        row = "" if offset is None else f", row {self.row + offset + 1}"
        return StreamError(f"{self.path}{row}: {message}")


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
        for batch in _batches(path, self.members, batch_rows):
            self._add_batch(batch, _Place(path, self.rows - start))
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

    def _cell(self, row: int) -> tuple[_Place, tuple[str, str]]:
        """Place and (product, attribute) of one row, counted over all files."""
        start, path = next((start, path) for start, path in reversed(self.starts) if start <= row)
        at = row - start
        for batch in _batches(path, (), BATCH_ROWS):
            if at < len(batch):
                product, attribute = (batch.column(name)[at].as_py() for name in ("product", "attribute"))
                return _Place(path, row - start), (product, attribute)
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

    def _add_batch(self, batch: Any, place: _Place) -> None:
        product = _texts(batch.column("product"), "product", place, required=True)
        self.products += int(pc.sum(pc.not_equal(product[1:], product[:-1])).as_py() or 0)
        self.products += product[0].as_py() != self.last
        self.last = product[-1].as_py()
        attributes = _dictionary(batch, "attribute", place, required=True)
        encoded = product.dictionary_encode()
        cells = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
        self.seen.add(cells, attributes, self.rows)
        codes, right = _encode(batch, self.members, place)
        groups = self._groups(batch, attributes, place)
        self.cells.add(histogram(codes, groups, right))
        if len(self.members) < MAX_MEMBERS:
            rows = np.flatnonzero(right >= 0) if right is not None else np.zeros(0, np.int64)
            parts = _parts(batch.take(pa.array(rows)), codes[rows], self.members)
            own = np.zeros(0, np.int64) if right is None else right[rows]
            self.gold.add(histogram(np.column_stack([codes[rows], parts]), groups[rows], own))

    def _groups(
        self, batch: Any, named: tuple[list[str], npt.NDArray[np.int64]], place: _Place
    ) -> npt.NDArray[np.int32]:
        attributes, attribute = named
        if "category" in batch.schema.names:
            categories, category = _dictionary(batch, "category", place, required=False)
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


def _parts(batch: Any, codes: Codes, members: tuple[str, ...]) -> Codes:
    """(n,) code of the value that is part of others; only where two values were named can there be one."""
    parts = np.full(len(codes), ABSTAIN, codes.dtype)
    named = np.where(codes > NA, codes, 0).max(axis=1, initial=0)
    rows = np.flatnonzero(((codes > NA) & (codes != named[:, None])).any(axis=1))
    few = batch.take(pa.array(rows))
    for i, texts in zip(
        rows, zip(*(few.column(name).to_pylist() for name in members), strict=True), strict=True
    ):
        part = find_part([text if text != NOT_APPLICABLE else None for text in texts])
        if part >= 0:
            parts[i] = codes[i, part]
    return parts


def _encode(
    batch: Any, members: tuple[str, ...], place: _Place
) -> tuple[Codes, npt.NDArray[np.int64] | None]:
    """(n, m) codes, one dictionary for all members and the gold, and the masks of the right members."""
    n = len(batch)
    columns = [_texts(batch.column(name), name, place) for name in members]
    owner = np.zeros(0, np.int64)
    if has_gold := "gold" in batch.schema.names:
        gold, owner = _gold_texts(batch.column("gold"), place)
        columns.append(gold)
    encoded = pa.chunked_array([column.dictionary_encode() for column in columns]).unify_dictionaries()
    values = encoded.chunk(0).dictionary
    ids = np.arange(1, len(values) + 1, dtype=np.int32)
    for value, code in ((NOT_APPLICABLE, NA), ("", ABSTAIN - 1)):
        at = pc.index(values, pa.scalar(value, values.type)).as_py()
        if at >= 0:
            ids[at] = code
    codes = np.empty((n, len(members)), np.int32)
    for j, name in enumerate(members):
        codes[:, j] = _lookup(ids, encoded.chunk(j))
        if (codes[:, j] < ABSTAIN).any():
            raise place.error(
                f"column {name!r} holds an empty text; null means no vote, {NOT_APPLICABLE!r} that the text "
                "does not say",
                int((codes[:, j] < ABSTAIN).argmax()),
            )
    if not has_gold:
        return codes, None
    return codes, _right(codes, _lookup(ids, encoded.chunk(len(members))), owner)


def _lookup(ids: npt.NDArray[np.int32], chunk: Any) -> npt.NDArray[np.int32]:
    indices = chunk.indices.fill_null(len(ids)).to_numpy(zero_copy_only=False)
    return np.asarray(np.append(ids, np.int32(ABSTAIN))[indices])


def _right(codes: Codes, gold: npt.NDArray[np.int32], owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Masks of the right members; ``owner`` is the row of each gold text, rising."""
    right = np.full(len(codes), UNLABELLED, np.int64)
    if not len(gold):
        return right
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    named = codes[owner] == gold[:, None]
    # "n/a" is right only as the preferred answer, the first of the list.
    behind = np.ones(len(gold), np.bool_)
    behind[first] = False
    named[behind & (gold == NA)] = False
    masks = named.astype(np.int64) @ (np.int64(1) << np.arange(codes.shape[1], dtype=np.int64))
    right[owner[first]] = np.bitwise_or.reduceat(masks, first)
    return right


def _gold_texts(column: Any, place: _Place) -> tuple[Any, npt.NDArray[np.int64]]:
    """The gold texts one after the other, and the row of each."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        owner = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        texts = _texts(pc.list_flatten(column), "gold", place)
        bad = pc.fill_null(pc.equal(texts, ""), fill_value=True)
        if pc.any(bad).as_py():
            row = int(owner[pc.index(bad, value=True).as_py()])
            raise place.error("`gold` holds null or an empty text; leave gold out where there is none", row)
        return texts, owner
    texts = _texts(column, "gold", place)
    given = pc.and_kleene(pc.is_valid(texts), pc.fill_null(pc.not_equal(texts, ""), fill_value=False))
    rows = np.flatnonzero(given.to_numpy(zero_copy_only=False))
    return texts.filter(given), rows.astype(np.int64)


def _texts(column: Any, name: str, place: _Place, required: bool = False) -> Any:
    """The column as an array of string; encoded or large ones are brought to it."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = column if column.type == pa.string() else column.cast(pa.string())
    else:
        raise place.error(
            f"column {name!r} is {column.type}; text is needed (name the members if it is no member)"
        )
    if required:
        bad = pc.fill_null(pc.equal(texts, ""), fill_value=True)
        if pc.any(bad).as_py():
            raise place.error(f"no {name}; every row needs one", pc.index(bad, value=True).as_py())
    return texts


def _dictionary(
    batch: Any, name: str, place: _Place, required: bool
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct texts and the index of each row's."""
    texts = _texts(batch.column(name), name, place, required).fill_null("").dictionary_encode()
    return texts.dictionary.to_pylist(), texts.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _batches(path: Path, members: tuple[str, ...], batch_rows: int) -> Iterator[Any]:
    wanted = {"product", "category", "attribute", "gold", *members}
    schema = _schema(path)
    missing = sorted({"product", "attribute", *members} - set(schema.names))
    if missing:
        raise StreamError(
            f"{path}: columns {missing} are missing; the file needs product, attribute and one per member "
            f"{list(members)}"
        )
    columns = [name for name in schema.names if name in wanted]
    try:
        if path.suffix in _ARROW_SUFFIXES:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i).select(columns)
                    for start in range(0, len(batch), batch_rows):
                        yield batch.slice(start, batch_rows)
        else:
            with pq.ParquetFile(path, buffer_size=_FILE_BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
                    if len(batch):
                        yield batch
    except (OSError, pa.ArrowException) as error:
        raise StreamError(f"{path}: cannot be read to its end ({error}); write the file again") from error


def _schema(path: Path) -> Any:
    try:
        if path.suffix in _ARROW_SUFFIXES:
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).schema
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise StreamError(f"{path}: cannot be read as Parquet or Arrow ({error}); is it cut off?") from error


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise StreamError("no file of votes given")
    return files


def _member_columns(path: Path) -> tuple[str, ...]:
    return tuple(name for name in _schema(path).names if name not in TABLE_COLUMNS)


def _checked(members: tuple[str, ...], path: Path) -> tuple[str, ...]:
    taken = sorted(set(members) & set(TABLE_COLUMNS))
    if taken:
        raise StreamError(f"{path}: {taken} are columns with another meaning; give these members other names")
    if not members or len(set(members)) != len(members) or len(members) > MAX_MEMBERS:
        raise StreamError(
            f"{path}: members must be 1 to {MAX_MEMBERS} distinct columns, not {list(members)}; name them"
        )
    return members


def _statistic_of(path: str, members: tuple[str, ...], batch_rows: int) -> Statistic:
    return read_statistic(path, members=members, batch_rows=batch_rows)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise StreamError(
            "reading with Ray needs it installed: pip install 'quorum[ray]', or use read_statistic"
        ) from error
