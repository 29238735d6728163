# SPDX-License-Identifier: Apache-2.0
"""Columns of votes as codes: Parquet and Arrow files in batches, texts through one dictionary per batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.histogram import UNLABELLED
from quorum.decision.parts import find_part
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, NA, Codes
from quorum.votes.table import VotesTable
from quorum_contract.errors import QuorumError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    raise ImportError(
        "votes in Parquet or Arrow files need pyarrow: pip install 'quorum[arrow]'"
    ) from missing

TABLE_COLUMNS = ("product", "category", "title", "attribute", "gold")
_ARROW_SUFFIXES = {".arrow", ".feather", ".ipc"}
_FILE_BUFFER = 1 << 20


class StreamError(QuorumError, ValueError):
    """A file of votes cannot be used; the message names file, row and column and what to do."""

    code = "VOTES_FILE_INVALID"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch stands, for messages."""

    path: Path
    row: int

    def error(self, message: str, offset: int | None = None) -> StreamError:
        """The refusal of the file, or of the row at ``offset`` in the batch."""
        row = "" if offset is None else f", row {self.row + offset + 1}"
        return StreamError(f"{self.path}{row}: {message}")


def batches(path: Path, members: tuple[str, ...], batch_rows: int) -> Iterator[Any]:
    """Record batches of the columns that count, ``batch_rows`` rows at most.

    Raises:
        StreamError: An unreadable file, or a missing column.
    """
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


def member_columns(path: Path) -> tuple[str, ...]:
    """Names of the columns that have no other meaning."""
    return tuple(name for name in _schema(path).names if name not in TABLE_COLUMNS)


def checked(members: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """The names themselves, if members can have them; else :class:`StreamError`."""
    taken = sorted(set(members) & set(TABLE_COLUMNS))
    if taken:
        raise StreamError(f"{path}: {taken} are columns with another meaning; give these members other names")
    if not members or len(set(members)) != len(members) or len(members) > MAX_MEMBERS:
        raise StreamError(
            f"{path}: members must be 1 to {MAX_MEMBERS} distinct columns, not {list(members)}; name them"
        )
    return members


def changes(column: Any) -> int:
    """Rows whose text differs from that of the row before."""
    return int(pc.sum(pc.not_equal(column[1:], column[:-1])).as_py() or 0)


def write_parquet(table: VotesTable, path: str | Path, row_group_rows: int = 1 << 16) -> None:
    """Write a votes table in columns, so that :func:`quorum.votes.stream.read_statistic` gives its statistic.

    Raises:
        StreamError: A member has the name of a column with another meaning.
    """
    checked(table.members, Path(path))
    cells = table.cells
    columns: dict[str, Any] = {
        name: pa.array([getattr(cell, name) for cell in cells], pa.string())
        for name in ("product", "category", "title", "attribute")
    }
    columns["gold"] = pa.array([list(cell.gold) for cell in cells], pa.list_(pa.string()))
    for j, name in enumerate(table.members):
        columns[name] = pa.array([cell.values[j] for cell in cells], pa.string())
    pq.write_table(pa.table(columns), path, row_group_size=row_group_rows)


def part_codes(batch: Any, codes: Codes, members: tuple[str, ...]) -> Codes:
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


def encode(batch: Any, members: tuple[str, ...], place: Place) -> tuple[Codes, npt.NDArray[np.int64] | None]:
    """(n, m) codes, one dictionary for all members and the gold, and the masks of the right members."""
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


def _gold_texts(column: Any, place: Place) -> tuple[Any, npt.NDArray[np.int64]]:
    """The gold texts one after the other, and the row of each."""
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


def dictionary_of(
    batch: Any, name: str, place: Place, required: bool
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct texts and the index of each row's."""
    texts = texts_of(batch.column(name), name, place, required).fill_null("").dictionary_encode()
    return texts.dictionary.to_pylist(), texts.indices.to_numpy(zero_copy_only=False).astype(np.int64)
