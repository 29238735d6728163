# SPDX-License-Identifier: Apache-2.0
"""Read votes tables from Parquet and Arrow in batches, as cells or codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.histogram import UNLABELLED
from quorum.decision.parts import find_part
from quorum.decision.patterns import ABSTAIN, NA, Codes
from quorum.votes import score_column, usage_column
from quorum.votes.jsonl import Row
from quorum.votes.schema import (
    ARROW_SUFFIXES,
    CELL_COLUMNS,
    ORIGIN_COLUMNS,
    RESERVED,
    SCORE_NEEDED,
    SCORES_COLUMN,
    TEXT_COLUMNS,
    UNVERSIONED,
    USAGE_COLUMN,
    VERSION_FIELD,
    Cell,
    VotesError,
    check_members,
    check_version,
    known_scores,
    read_origin,
    read_usage,
)
from quorum.votes.table import CodedVotes, Scores, scores_or_none
from quorum.votes.text_rows import text_features
from quorum_contract import CHANNELS, LAZY_CHANNELS

VERSION_KEY = f"quorum.votes.{VERSION_FIELD}".encode()
_DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What pyarrow raises for a damaged file; the last for a name of a column."""
_DIGITS = 10
_FILE_BUFFER = 1 << 20
_EXPECTED = dict.fromkeys(("channel", "fallback_from"), (*CHANNELS, *LAZY_CHANNELS))
"""The texts under a reserved name that cannot be the votes of a member; under other names none."""


class ColumnsFile:
    """A votes table in Parquet or Arrow; raises VotesError if unreadable, too new, or with a name twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with self._open() as file:
                schema = file.schema if self._is_arrow else file.schema_arrow
            self._names: list[str] = schema.names
            self.version = self._stated_version(schema)
            twice = sorted({name for name in self._names if self._names.count(name) > 1})
            if twice:
                raise VotesError(f"{path}: columns {twice} stand twice; every column needs a name of its own")
            scores = schema.field(SCORES_COLUMN).type if SCORES_COLUMN in self._names else None
            self.has_scores = scores is not None and self._are_scores(scores)
            if USAGE_COLUMN in self._names:
                usage_column.check_type(schema.field(USAGE_COLUMN).type)
        except _DAMAGE as error:
            hint = "these are JSON lines: name the file .jsonl" if _is_lines(path) else "is it cut off?"
            raise VotesError(f"{path}: cannot be read as Parquet or Arrow ({error}); {hint}") from error

    def __len__(self) -> int:
        """Number of rows; Parquet states it, Arrow is read for it."""
        if self._is_arrow:
            return sum(len(batch) for batch in self._batches(("product",), sys.maxsize))
        return int(pq.read_metadata(self.path).num_rows)

    def members(self) -> tuple[str, ...]:
        """Names of the member columns: those with no other meaning; raises VotesError without any."""
        members = self._member_columns()
        check_members(members, self.path)
        return members

    def rows(self, batch_rows: int, identified: bool = True) -> Iterator[Row]:
        """Read the cells one by one; without ``identified`` they need a title, not a product.

        Raises:
            VotesError: Unreadable, a missing column, one of another type, or an incomplete row.
        """
        members = self.members()
        required = ("product" if identified else "title", "attribute", *members)
        columns = (*CELL_COLUMNS, *ORIGIN_COLUMNS, SCORES_COLUMN, USAGE_COLUMN, *members)
        for batch in self._batches(columns, batch_rows, required):
            yield from batch.rows(members)

    def coded(self, members: tuple[str, ...], batch_rows: int) -> Iterator[tuple[Sequence[int], CodedVotes]]:
        """Read batches of coded votes, with their row numbers; raises VotesError like :meth:`rows`."""
        required = ("product", "attribute", *members)
        columns = (*required, "category", "title", "gold", SCORES_COLUMN)
        for batch in self._batches(columns, batch_rows, required):
            yield range(batch.start + 1, batch.start + len(batch) + 1), batch.coded(members)

    def _stated_version(self, schema: Any) -> int:
        stated = (schema.metadata or {}).get(VERSION_KEY)
        try:
            return check_version(
                int(stated) if stated and stated.isdigit() and len(stated) < _DIGITS else stated
            )
        except VotesError as error:
            raise VotesError(f"{self.path}: {error}") from error

    def _member_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self._names if name not in RESERVED)

    def _are_scores(self, kind: Any) -> bool:
        """Whether a column holds scores; version 1 had none, and may have another column of that name."""
        try:
            score_column.check_type(kind, self._member_columns())
        except VotesError as error:
            if self.version > UNVERSIONED:
                raise VotesError(f"{self.path}: {error}") from error
            return False
        return True

    @property
    def _is_arrow(self) -> bool:
        return self.path.suffix in ARROW_SUFFIXES

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if self._is_arrow:
            with pa.memory_map(str(self.path)) as source:
                yield pa.ipc.open_file(source)
        else:
            with pq.ParquetFile(self.path, buffer_size=_FILE_BUFFER, pre_buffer=False) as file:
                yield file

    def _batches(
        self, columns: Sequence[str], batch_rows: int, required: Sequence[str] = ()
    ) -> Iterator[_Batch]:
        """Batches of those of ``columns`` that the file has, ``batch_rows`` rows at most."""
        missing = sorted(set(required) - set(self._names))
        if missing:
            raise VotesError(
                f"{self.path}: columns {missing} are missing; the file needs one per member, and "
                f"{list(required)}"
            )
        reserved = RESERVED.difference(CELL_COLUMNS) if self.version == UNVERSIONED else frozenset()
        wanted = [name for name in self._names if name in columns or name in reserved]
        start = 0
        try:
            with self._open() as file:
                for arrow in self._arrow_batches(file, wanted, batch_rows):
                    batch = _Batch(arrow, self, start, required)
                    batch.refuse_votes(reserved)
                    yield batch
                    start += len(batch)
        except _DAMAGE as error:
            raise VotesError(
                f"{self.path}: cannot be read to its end ({error}); write the file again"
            ) from error

    def _arrow_batches(self, file: Any, columns: list[str], batch_rows: int) -> Iterator[Any]:
        whole = (
            (file.get_batch(i).select(columns) for i in range(file.num_record_batches))
            if self._is_arrow
            else file.iter_batches(batch_rows, columns=columns, use_threads=False)
        )
        for batch in whole:
            # Offsets of a damaged file are not checked by reading, and end the process when followed.
            batch.validate(full=True)
            for start in range(0, len(batch), batch_rows):
                yield batch.slice(start, batch_rows)


class _Batch:
    """Rows of a file from row ``start`` on, counted from 0; product and attribute may be ``required``."""

    def __init__(self, arrow: Any, file: ColumnsFile, start: int, required: Sequence[str]) -> None:
        self._arrow, self._file, self.start = arrow, file, start
        self._required = {"product", "attribute"}.intersection(required)

    def __len__(self) -> int:
        return len(self._arrow)

    def refuse_votes(self, reserved: frozenset[str]) -> None:
        """Refuse what looks like votes under a reserved name, as a file without a version may have them."""
        for name in reserved.intersection(self._arrow.schema.names):
            column = self._arrow.column(name)
            if not _is_text(column.type):
                continue
            expected = pa.array(_EXPECTED.get(name, ()), pa.string())
            votes = pc.and_(column.is_valid(), pc.invert(pc.is_in(column.cast(pa.string()), expected)))
            self._refuse(
                votes,
                f"column {name!r} holds a text like a member's vote, but has another meaning; give the "
                "member another name, or leave the column out",
            )

    def rows(self, members: tuple[str, ...]) -> Iterator[Row]:
        """The rows as cells."""
        texts = [self._texts(name).fill_null("").to_pylist() for name in TEXT_COLUMNS]
        columns = [self._votes(name) for name in members]
        votes = [column.to_pylist() for column in columns]
        silent = np.column_stack([column.is_null().to_numpy(zero_copy_only=False) for column in columns])
        scores = self._cell_scores(members, silent)
        gold: list[tuple[str, ...]] = [()] * len(self)
        accepted, owner = self._gold()
        for text, at in zip(accepted.to_pylist(), owner.tolist(), strict=True):
            gold[at] = (*gold[at], text)
        recorded = [name for name in ORIGIN_COLUMNS if name in self._arrow.schema.names]
        origins = self._arrow.select(recorded).to_pylist()
        usage = self._column(USAGE_COLUMN).to_pylist()
        rows = zip(*texts, zip(*votes, strict=True), gold, origins, scores, strict=True)
        for i, (product, category, title, attribute, values, answers, stated, known) in enumerate(rows):
            try:
                origin, took = read_origin(stated, self._file.version), read_usage(usage[i], members)
            except VotesError as error:
                raise self._error(str(error), i) from error
            cell = Cell(product, category, title, attribute, values, answers, origin, known, took)
            yield Row(self.start + i + 1, members, cell)

    def coded(self, members: tuple[str, ...]) -> CodedVotes:
        """The rows as codes, one dictionary for members and gold; parts and texts of labelled cells only."""
        votes = [self._votes(name) for name in members]
        gold, owner = self._gold()
        encoded = pa.chunked_array([column.dictionary_encode() for column in (*votes, gold)])
        encoded = encoded.unify_dictionaries()
        values = encoded.chunk(0).dictionary
        ids = np.append(np.arange(1, len(values) + 1, dtype=np.int32), np.int32(ABSTAIN))
        not_applicable = pc.index(values, pa.scalar(NOT_APPLICABLE, values.type)).as_py()
        if not_applicable >= 0:
            ids[not_applicable] = NA
        indices = [_indices(chunk.indices.fill_null(len(values))) for chunk in encoded.chunks]
        codes = np.column_stack([ids[column] for column in indices[:-1]])
        right = _right(codes, ids[indices[-1]], owner)
        product_names, products = self._dictionary("product")
        group_names, groups = self._groups()
        parts, scores = _parts(votes, codes, right), self._scores(members, codes == ABSTAIN)
        labelled = pa.array(np.flatnonzero(right != UNLABELLED))
        titles = self._texts("title").fill_null("").take(labelled).to_pylist()
        text = text_features(
            titles, zip(*(column.take(labelled).to_pylist() for column in votes), strict=True)
        )
        return CodedVotes(
            members, codes, right, groups, group_names, products, product_names, parts, scores, text
        )

    def _cell_scores(
        self, members: tuple[str, ...], silent: npt.NDArray[np.bool_]
    ) -> Sequence[tuple[float | None, ...]]:
        """The scores of each row, as of a cell."""
        scores = self._scores(members, silent)
        if scores is None:
            return [()] * len(self)
        return [known_scores(None if x != x else x for x in row) for row in scores.tolist()]

    def _scores(self, members: tuple[str, ...], silent: npt.NDArray[np.bool_]) -> Scores | None:
        """(n, m) scores, nan where there is none or the member was ``silent``; None if all are."""
        if not self._file.has_scores:
            return None
        numbers = score_column.read_column(self._column(SCORES_COLUMN), members)
        bad = score_column.misfits(numbers)
        if self._file.version == UNVERSIONED:
            silent = silent | bad.any(axis=1, keepdims=True)
        elif bad.any():
            row, at = (int(place) for place in np.argwhere(bad)[0])
            raise self._error(f"scores[{members[at]!r}] is {numbers[row, at]:g}; {SCORE_NEEDED}", row)
        numbers[silent] = np.nan
        return scores_or_none((np.minimum(numbers, 0.0) + 0.0).astype(np.float32))

    def _groups(self) -> tuple[tuple[tuple[str, str], ...], npt.NDArray[np.int32]]:
        """Distinct (category, attribute), sorted, and the (n,) index of each row's."""
        categories, category = self._dictionary("category")
        attributes, attribute = self._dictionary("attribute")
        pairs, inverse = np.unique(category * len(attributes) + attribute, return_inverse=True)
        halves = (divmod(pair, len(attributes)) for pair in pairs.tolist())
        names = [(categories[i], attributes[j]) for i, j in halves]
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), np.int32)
        rank[order] = np.arange(len(names))
        return tuple(names[i] for i in order), rank[inverse.reshape(-1)]

    def _dictionary(self, name: str) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Distinct texts in order of appearance, and the (n,) index of each row's text."""
        texts = self._texts(name).fill_null("").dictionary_encode()
        return texts.dictionary.to_pylist(), _indices(texts.indices)

    def _texts(self, name: str) -> Any:
        """A column as an array of string."""
        texts = self._cast(self._column(name), name)
        if name in self._required:
            self._refuse(_is_blank(texts), f"no {name}; every row needs one")
        return texts

    def _votes(self, name: str) -> Any:
        """The votes of a member as texts, null where it abstained."""
        texts = self._texts(name)
        self._refuse(
            pc.equal(texts, ""),
            f"column {name!r} holds an empty text; null means no vote, {NOT_APPLICABLE!r} that the text does "
            "not say",
        )
        return texts

    def _gold(self) -> tuple[Any, npt.NDArray[np.int64]]:
        """All gold texts, and the row of each, rising."""
        column = self._column("gold")
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            owner = _indices(pc.list_parent_indices(column))
            texts = self._cast(pc.list_flatten(column), "gold")
            reason = "`gold` holds null or an empty text; leave gold out where there is none"
            self._refuse(_is_blank(texts), reason, owner)
            return texts, owner
        texts = self._cast(column, "gold")
        given = pc.invert(_is_blank(texts))
        return texts.filter(given), np.flatnonzero(given.to_numpy(zero_copy_only=False))

    def _column(self, name: str) -> Any:
        """A column; all null if the file has none."""
        has_it = name in self._arrow.schema.names
        return self._arrow.column(name) if has_it else pa.nulls(len(self), pa.string())

    def _cast(self, column: Any, name: str) -> Any:
        if not _is_text(column.type):
            raise self._error(
                f"column {name!r} is {column.type}; text is needed (name the members if it is no member)"
            )
        return column if column.type == pa.string() else column.cast(pa.string())

    def _refuse(self, bad: Any, message: str, owner: npt.NDArray[np.int64] | None = None) -> None:
        """Raise for the first row that is ``bad``; ``owner`` is the row of each entry, None: its own."""
        at = pc.index(bad, value=True).as_py()
        if at >= 0:
            raise self._error(message, at if owner is None else int(owner[at]))

    def _error(self, message: str, offset: int | None = None) -> VotesError:
        row = "" if offset is None else f", row {self.start + offset + 1}"
        return VotesError(f"{self._file.path}{row}: {message}")


def _is_lines(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def _is_text(kind: Any) -> bool:
    """Whether a type can be cast to string; no value at all counts too."""
    own = kind.value_type if pa.types.is_dictionary(kind) else kind
    return own in (pa.null(), pa.string(), pa.large_string())


def _is_blank(texts: Any) -> Any:
    return pc.fill_null(pc.equal(texts, ""), fill_value=True)


def _indices(column: Any) -> npt.NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


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


def _parts(votes: Sequence[Any], codes: Codes, right: npt.NDArray[np.int64]) -> Codes:
    """(n,) code of the value that is part of others, of labelled rows with two named values."""
    parts = np.full(len(codes), ABSTAIN, codes.dtype)
    highest = np.where(codes > NA, codes, 0).max(axis=1, initial=0)
    differ = ((codes > NA) & (codes != highest[:, None])).any(axis=1)
    rows = np.flatnonzero((right != UNLABELLED) & differ)
    few = [column.take(pa.array(rows)).to_pylist() for column in votes]
    for i, texts in zip(rows, zip(*few, strict=True), strict=True):
        part = find_part([None if text == NOT_APPLICABLE else text for text in texts])
        if part >= 0:
            parts[i] = codes[i, part]
    return parts
