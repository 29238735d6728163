# SPDX-License-Identifier: Apache-2.0
"""Open a file that was described, and read its rows from any place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from quorum.bulk.inputs import encodings
from quorum.bulk.inputs.formats.csv import CsvCursor, header_of
from quorum.bulk.inputs.formats.cursor import Cursor, Place
from quorum.bulk.inputs.formats.jsonl import JsonlCursor
from quorum.bulk.inputs.formats.parquet import ParquetCursor
from quorum.bulk.inputs.layout import Source
from quorum.bulk.inputs.lines import Lines
from quorum.bulk.inputs.opening import open_bytes, reading, unpacked


def codec_of(source: Source) -> str:
    """The codec of single lines."""
    return "utf-8" if source.encoding == "utf-8-sig" else source.encoding


def starts_anywhere(source: Source) -> bool:
    """Whether reading may begin at any row, and not at the first one only."""
    if source.format == "parquet":
        return True
    return not source.compression and encodings.is_read_as_bytes(source.encoding)


@contextmanager
def cursor_over(source: Source, start: Place | None = None, *, fixed: bool = True) -> Iterator[Cursor]:
    """Yield a cursor over the rows of a file.

    Args:
        source: The file, as described.
        start: Where the first row to read begins, of a source that :func:`starts_anywhere`; None: the file's
            first.
        fixed: Whether the encoding is certain, see :class:`quorum.bulk.inputs.formats.csv.CsvCursor`.

    Raises:
        ListingsError: It cannot be read.
    """
    if source.format == "parquet":
        with reading(source.name), open_bytes(source.url) as raw:
            yield ParquetCursor(raw, source.name, start or Place(0, 0, 0))
        return
    with lines_of(source, start.offset if start else 0) as (lines, codec):
        if source.format == "jsonl":
            yield JsonlCursor(lines, codec, fixed=fixed, place=start or Place(0, 1, 0))
            return
        assert source.dialect is not None
        place = start or header_of(lines, source.dialect, codec, source.name)[1]
        yield CsvCursor(lines, source.columns, source.dialect, codec, fixed=fixed, place=place)


@contextmanager
def lines_of(source: Source, offset: int) -> Iterator[tuple[Lines, str]]:
    """Lines of a text from a byte on, and the codec that they are in."""
    with reading(source.name), open_bytes(source.url) as raw:
        if offset:
            raw.seek(offset)
        with unpacked(raw, source.compression) as plain:
            if encodings.is_read_as_bytes(source.encoding):
                yield Lines(plain, source.name), codec_of(source)
            else:
                yield (
                    Lines(
                        cast("BinaryIO", encodings.Transcoded(plain, source.encoding)),
                        source.name,
                        source.encoding,
                    ),
                    "utf-8",
                )
