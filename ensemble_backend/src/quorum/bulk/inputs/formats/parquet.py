# SPDX-License-Identifier: Apache-2.0
"""Rows of Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from quorum.bulk.inputs.formats.cursor import Flaw, Place, check_columns
from quorum.bulk.inputs.records import ListingsError

BATCH_ROWS = 1 << 10
_WORDS = {"string": "texts", "large_string": "texts", "string_view": "texts"}


class ParquetCursor:
    """Reads rows batch by batch, which is what it holds in memory.

    Attributes:
        columns: Names of the columns.
        kinds: Column -> its type in words, alike for types that hold the same values.
    """

    def __init__(self, file: BinaryIO, name: str, place: Place) -> None:
        """Start at the row ``place.row``, whatever its row group.

        Raises:
            ListingsError: The file is no Parquet, is cut off, or has two columns of one name; or pyarrow
                is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ListingsError(f"{name}: Parquet needs pyarrow: pip install 'quorum[arrow]'") from error
        self._errors, self._name = (pa.ArrowException, OSError), name
        try:
            self._parquet = pq.ParquetFile(file, pre_buffer=False)
        except self._errors as error:
            raise self._broken(error) from error
        schema = self._parquet.schema_arrow
        self.columns: tuple[str, ...] = tuple(schema.names)
        check_columns(name, self.columns)
        self.kinds = {field.name: _kind(field.type) for field in schema}
        metadata = self._parquet.metadata
        ends = [0]
        for group in range(metadata.num_row_groups):
            ends.append(ends[-1] + metadata.row_group(group).num_rows)
        self._ends, self._row = ends, place.row
        self.at = 0

    def place(self) -> Place:
        """Where the next row begins."""
        group = sum(end <= self._row for end in self._ends[1:])
        return Place(group, 0, self._row)

    def __iter__(self) -> Iterator[Mapping[str, Any] | Flaw]:
        group = self.place().offset
        skipped = self._row - self._ends[group]
        groups = range(group, self._parquet.metadata.num_row_groups)
        if not groups:
            return
        batches = self._parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=list(groups))
        while True:
            try:
                batch = next(batches, None)
            except self._errors as error:
                raise self._broken(error) from error
            if batch is None:
                return
            if skipped >= batch.num_rows:
                skipped -= batch.num_rows
                continue
            for row in self._rows_of(batch.slice(skipped)):
                self._row += 1
                self.at = self._row
                yield row
            skipped = 0

    def _rows_of(self, batch: Any) -> Iterator[Mapping[str, Any] | Flaw]:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            return self._one_by_one(batch)
        return iter(rows)

    def _one_by_one(self, batch: Any) -> Iterator[Mapping[str, Any] | Flaw]:
        """Rows of a batch in which a text is not UTF-8."""
        for number in range(batch.num_rows):
            row: dict[str, Any] = {}
            flaw = ""
            for column, cells in zip(self.columns, batch.columns, strict=True):
                try:
                    row[column] = cells[number].as_py()
                except UnicodeDecodeError as error:
                    row[column] = error.object.decode("utf-8", "replace")
                    flaw = f"{column!r} is not UTF-8 ({error.reason} at byte {error.start}); write it anew"
            yield Flaw(flaw, json.dumps(row, ensure_ascii=False, default=str), 0) if flaw else row

    def _broken(self, error: Exception) -> ListingsError:
        first = str(error).partition("\n")[0]
        return ListingsError(f"{self._name}: cannot be read as Parquet ({first}); is it cut off?")


def _kind(type_: Any) -> str:
    """A type in words: whole numbers of any width are one kind, texts and times too."""
    import pyarrow.types as types

    if types.is_list(type_) or types.is_large_list(type_):
        return f"lists of {_kind(type_.value_type)}"
    if types.is_struct(type_):
        return "objects"
    if types.is_dictionary(type_):
        return _kind(type_.value_type)
    if types.is_integer(type_):
        return "whole numbers"
    if types.is_floating(type_) or types.is_decimal(type_):
        return "numbers"
    if types.is_timestamp(type_):
        return "times"
    return _WORDS.get(str(type_), str(type_))
