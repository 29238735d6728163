# SPDX-License-Identifier: Apache-2.0
"""Read votes tables from Parquet and Arrow in batches, as codes or cells; write them in row groups."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.histogram import UNLABELLED
from quorum.decision.parts import find_part
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, NA, Codes
from quorum.votes.jsonl import Row
from quorum.votes.schema import (
    ARROW_SUFFIXES,
    ORIGIN_COLUMNS,
    RESERVED,
    SCHEMA_VERSION,
    VERSION_FIELD,
    Cell,
    VotesError,
    check_version,
    read_origin,
)

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    raise ImportError(
        "votes in Parquet or Arrow files need pyarrow: pip install 'quorum[arrow]'"
    ) from missing

CODED_COLUMNS = ("product", "category", "attribute", "gold")
"""Columns that :func:`encode` and its callers read besides the members."""
ROW_GROUP_ROWS = 1 << 16
"""Cells held by a writer until they are written."""
_VERSION_KEY = f"quorum.votes.{VERSION_FIELD}".encode()
_FILE_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """File and first row of a batch, for messages."""

    path: Path
    row: int

    def error(self, message: str, offset: int | None = None) -> VotesError:
        """An error of the file, or of the row at ``offset`` in the batch."""
        row = "" if offset is None else f", row {self.row + offset + 1}"
        return VotesError(f"{self.path}{row}: {message}")


def batches(
    path: Path, columns: Sequence[str], batch_rows: int, required: Sequence[str] = ()
) -> Iterator[Any]:
    """Record batches of those of ``columns`` that the file has, ``batch_rows`` rows at most.

    Raises:
        VotesError: An unreadable file, a newer schema version, or a missing column of those required.
    """
    schema = _schema(path)
    missing = sorted(set(required) - set(schema.names))
    if missing:
        raise VotesError(
            f"{path}: columns {missing} are missing; the file needs one per member, and {list(required)}"
        )
    wanted = [name for name in schema.names if name in columns]
    try:
        if path.suffix in ARROW_SUFFIXES:
            with _arrow_file(path) as reader:
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i).select(wanted)
                    # Offsets of a damaged file are not checked by reading, and end the process when followed.
                    batch.validate(full=True)
                    for start in range(0, len(batch), batch_rows):
                        yield batch.slice(start, batch_rows)
        else:
            with pq.ParquetFile(path, buffer_size=_FILE_BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_rows, columns=wanted, use_threads=False):
                    if len(batch):
                        yield batch
    except (OSError, pa.ArrowException) as error:
        raise VotesError(f"{path}: cannot be read to its end ({error}); write the file again") from error


@contextmanager
def _arrow_file(path: Path) -> Iterator[Any]:
    with pa.memory_map(str(path)) as source:
        yield pa.ipc.open_file(source)


def _schema(path: Path) -> Any:
    try:
        if path.suffix in ARROW_SUFFIXES:
            with _arrow_file(path) as reader:
                schema = reader.schema
        else:
            schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        hint = "these are JSON lines: name the file .jsonl" if _is_lines(path) else "is it cut off?"
        raise VotesError(f"{path}: cannot be read as Parquet or Arrow ({error}); {hint}") from error
    _version(path, schema)
    return schema


def _is_lines(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def _version(path: Path, schema: Any) -> int:
    text = (schema.metadata or {}).get(_VERSION_KEY)
    try:
        return check_version(None if text is None else int(text))
    except VotesError as error:
        raise VotesError(f"{path}: {error}") from error
    except ValueError as error:
        raise VotesError(f"{path}: `{VERSION_FIELD}` in the metadata is {text!r}, no number") from error


def count_rows(path: Path) -> int:
    """Number of rows, from the metadata of the file."""
    _schema(path)
    if path.suffix not in ARROW_SUFFIXES:
        return int(pq.read_metadata(path).num_rows)
    return sum(len(batch) for batch in batches(path, ("product",), sys.maxsize))


def member_columns(path: Path) -> tuple[str, ...]:
    """Names of the member columns: those with no other meaning."""
    return checked(tuple(name for name in _schema(path).names if name not in RESERVED), path)


def checked(members: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """Return valid member names; raises VotesError for others."""
    taken = sorted(set(members) & RESERVED)
    if taken:
        raise VotesError(f"{path}: {taken} are columns with another meaning; give these members other names")
    if not members or len(set(members)) != len(members) or len(members) > MAX_MEMBERS:
        raise VotesError(
            f"{path}: members must be 1 to {MAX_MEMBERS} distinct columns, not {list(members)}; name them"
        )
    return members


def read_rows(path: Path, batch_rows: int, identified: bool = True) -> Iterator[Row]:
    """Read the cells one by one.

    Args:
        path: The file.
        batch_rows: Rows held at once.
        identified: Rows need a product; without, a title, and the product may be missing.

    Raises:
        VotesError: An unreadable file, a missing column, one of another type, or an incomplete row.
    """
    members = member_columns(path)
    key = "product" if identified else "title"
    version = _version(path, _schema(path))
    row = 0
    for batch in batches(
        path, (*CODED_COLUMNS, "title", *ORIGIN_COLUMNS, *members), batch_rows, (key, "attribute", *members)
    ):
        place = Place(path, row)
        yield from _rows(batch, members, place, version, identified)
        row += len(batch)


def _rows(
    batch: Any, members: tuple[str, ...], place: Place, version: int, identified: bool
) -> Iterator[Row]:
    present = set(batch.schema.names)
    texts: dict[str, Any] = {}
    for name in ("product", "category", "title", "attribute"):
        if name in present:
            required = name == "attribute" or (name == "product" and identified)
            texts[name] = texts_of(batch.column(name), name, place, required).fill_null("").to_pylist()
        else:
            texts[name] = itertools.repeat("", len(batch))
    votes = [_votes_of(batch.column(name), name, place).to_pylist() for name in members]
    gold: list[tuple[str, ...]] = [()] * len(batch)
    if "gold" in present:
        accepted, owner = _gold_texts(batch.column("gold"), place)
        for text, at in zip(accepted.to_pylist(), owner.tolist(), strict=True):
            gold[at] = (*gold[at], text)
    recorded = [name for name in ORIGIN_COLUMNS if name in present]
    origins = zip(*(batch.column(name).to_pylist() for name in recorded), strict=True)
    rows = zip(*texts.values(), zip(*votes, strict=True), gold, strict=True)
    for offset, (product, category, title, attribute, values, answers) in enumerate(rows):
        try:
            stated = dict(zip(recorded, next(origins), strict=True)) if recorded else {}
            origin = read_origin(stated, version)
        except VotesError as error:
            raise place.error(str(error), offset) from error
        cell = Cell(product, category, title, attribute, values, answers, origin)
        yield Row(place.row + offset + 1, members, cell)


def cell_at(path: Path, at: int, batch_rows: int) -> tuple[str, str] | None:
    """Product and attribute of the row ``at``, counted from 0; None: there is no such row."""
    for batch in batches(path, ("product", "attribute"), batch_rows):
        if at < len(batch):
            product, attribute = (batch.column(name)[at].as_py() for name in ("product", "attribute"))
            return product, attribute
        at -= len(batch)
    return None


class ColumnsSink:
    """Writes cells as Parquet or Arrow, a row group at a time."""

    def __init__(self, path: Path, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        self._path, self._group = path, row_group_rows
        self._cells: list[Cell] = []
        self._members: tuple[str, ...] = ()
        self._writer: Any = None
        self._file = path.open("wb")

    def write(self, cell: Cell, members: Sequence[str]) -> None:
        """Write a cell; the first one sets the members."""
        if not self._members:
            self._members = checked(tuple(members), self._path)
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
        name: pa.array([getattr(cell, name) for cell in cells], pa.string())
        for name in ("product", "category", "title", "attribute")
    }
    columns["gold"] = pa.array([list(cell.gold) for cell in cells], pa.list_(pa.string()))
    for j, name in enumerate(members):
        columns[name] = pa.array([cell.values[j] for cell in cells], pa.string())
    kinds = (pa.string(), pa.int64(), pa.float64(), pa.string())
    for name, kind in zip(ORIGIN_COLUMNS, kinds, strict=True):
        columns[name] = pa.array([getattr(cell.origin, name, None) for cell in cells], kind)
    return pa.table(columns, metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def changes(column: Any) -> int:
    """Number of rows whose text differs from the row before."""
    return int(pc.sum(pc.not_equal(column[1:], column[:-1])).as_py() or 0)


def part_codes(batch: Any, codes: Codes, members: tuple[str, ...]) -> Codes:
    """(n,) code of the value that is part of others; needs rows with two named values."""
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


def encode(batch: Any, members: tuple[str, ...], place: Place) -> tuple[Codes, npt.NDArray[np.int64] | None]:
    """Encode a batch: (n, m) codes, one dictionary for members and gold, and (n,) masks of right members."""
    n = len(batch)
    columns = [texts_of(batch.column(name), name, place) for name in members]
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
            raise _empty_vote(name, place, int((codes[:, j] < ABSTAIN).argmax()))
    if not has_gold:
        return codes, None
    return codes, _right(codes, _lookup(ids, encoded.chunk(len(members))), owner)


def _votes_of(column: Any, name: str, place: Place) -> Any:
    """The votes of a member as texts, null where it abstained."""
    texts = texts_of(column, name, place)
    empty = pc.fill_null(pc.equal(texts, ""), fill_value=False)
    if pc.any(empty).as_py():
        raise _empty_vote(name, place, pc.index(empty, value=True).as_py())
    return texts


def _empty_vote(name: str, place: Place, row: int) -> VotesError:
    return place.error(
        f"column {name!r} holds an empty text; null means no vote, {NOT_APPLICABLE!r} that the text does not "
        "say",
        row,
    )


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


def _gold_texts(column: Any, place: Place) -> tuple[Any, npt.NDArray[np.int64]]:
    """All gold texts, and the row of each."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        owner = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        texts = texts_of(pc.list_flatten(column), "gold", place)
        bad = pc.fill_null(pc.equal(texts, ""), fill_value=True)
        if pc.any(bad).as_py():
            row = int(owner[pc.index(bad, value=True).as_py()])
            raise place.error("`gold` holds null or an empty text; leave gold out where there is none", row)
        return texts, owner
    texts = texts_of(column, "gold", place)
    given = pc.and_kleene(pc.is_valid(texts), pc.fill_null(pc.not_equal(texts, ""), fill_value=False))
    rows = np.flatnonzero(given.to_numpy(zero_copy_only=False))
    return texts.filter(given), rows.astype(np.int64)


def texts_of(column: Any, name: str, place: Place, required: bool = False) -> Any:
    """The column as an array of string, cast from encoded or large ones."""
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


def dictionary_of(
    batch: Any, name: str, place: Place, required: bool
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct texts, and the (n,) index of each row's text."""
    texts = texts_of(batch.column(name), name, place, required).fill_null("").dictionary_encode()
    return texts.dictionary.to_pylist(), texts.indices.to_numpy(zero_copy_only=False).astype(np.int64)
