# SPDX-License-Identifier: Apache-2.0
"""What a file is, by its name and its first bytes."""

from __future__ import annotations

import codecs
import os
import re
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from quorum.bulk.inputs import encodings
from quorum.bulk.inputs.cursors import codec_of, cursor_over, lines_of
from quorum.bulk.inputs.dialect import detect_dialect
from quorum.bulk.inputs.formats.csv import SEPARATOR_LINE, header_of, sample_of
from quorum.bulk.inputs.formats.cursor import Flaw
from quorum.bulk.inputs.formats.parquet import ParquetCursor
from quorum.bulk.inputs.layout import Source
from quorum.bulk.inputs.opening import (
    ENDINGS,
    compression_of,
    file_system,
    is_url,
    open_bytes,
    reading,
    unpacked,
)
from quorum.bulk.inputs.options import Format, InputOptions
from quorum.bulk.inputs.records import ListingsError
from quorum.files import hash_file

STDIN_NAME = "standard input"
"""How messages call it."""
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""Endings of names that say the format."""
_USUAL = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_NO_TABLES = (
    (b"PK\x03\x04", "a spreadsheet or a zip archive; save it as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of an old format; save it as CSV"),
    (b"%PDF", "a PDF"),
)
_VERSIONS = (
    *("ETag", "etag", "content_md5", "md5Hash", "Content-MD5", "Digest"),
    *("version_id", "generation", "LastModified", "last_modified", "Last-Modified", "mtime", "created"),
)
"""What stores call the hash or version of an object, the best first."""
_ARRAY = re.compile(rb"\s*\[\s*[{\]]")
_HEAD = 1 << 16
_ROWS_OF_KEYS = 100


def describe(url: str, name: str, options: InputOptions, first: int = 0) -> Source:
    """What a file is, by its name and its first bytes; a text without a mark is taken for UTF-8.

    Args:
        url: Path or URL of the file.
        name: How messages call it.
        options: What is known.
        first: Index of its first row.

    Raises:
        ListingsError: It cannot be opened, is empty, or of no known format; its header cannot be read.
    """
    with reading(name), open_bytes(url) as raw:
        magic = raw.read(8)
        compression = compression_of(magic) if options.compression is None else options.compression
        raw.seek(0)
        with unpacked(raw, compression) as plain:
            head = _read(plain, _HEAD)
        size = raw.seek(0, os.SEEK_END) if not raw.closed else _size(url)
    if not head:
        raise ListingsError(f"{name}: is empty; write it anew, or leave it out")
    source = Source(
        url=url, name=name, format=options.format or _format(name, head, options),
        compression=compression, size=size, first=first,
    )  # fmt: skip
    if source.format == "parquet":
        return _described_parquet(source)
    source = replace(source, encoding=options.codec or encodings.guess(head))
    if source.format == "jsonl":
        if _ARRAY.match(head.removeprefix(codecs.BOM_UTF8)):
            raise ListingsError(f"{name}: is an array of JSON; write one object per line, without commas")
        return replace(source, columns=_first_keys(source))
    try:
        return _described_csv(source, head, options)
    except UnicodeDecodeError:
        return recoded(source, options)


def recoded(source: Source, options: InputOptions) -> Source:
    """A text that is not UTF-8 throughout, as described with the encoding that fits; reads the whole file."""
    with lines_of(replace(source, encoding="utf-8"), 0) as (lines, _):
        source = replace(source, encoding=encodings.settle(lines))
    if source.format != "csv":
        return source
    with reading(source.name), open_bytes(source.url) as raw, unpacked(raw, source.compression) as plain:
        return _described_csv(source, _read(plain, _HEAD), options, tentative=False)


def _described_csv(source: Source, head: bytes, options: InputOptions, *, tentative: bool = True) -> Source:
    """The source with dialect and columns, for its encoding."""
    as_bytes = encodings.is_read_as_bytes(source.encoding)
    text = head if as_bytes else head.decode(source.encoding, "ignore").encode("utf-8", "replace")
    lines = sample_of(text, codec_of(source) if as_bytes else "utf-8", whole=len(head) < _HEAD)
    usual = _USUAL.get(ending_of(source.name), ",")
    if lines and options.delimiter is None and (named := SEPARATOR_LINE.fullmatch(lines[0])):
        options = replace(options, delimiter=named[1])
        lines.pop(0)
    dialect = detect_dialect(lines, options, usual)
    fixed = options.encoding is not None or source.encoding != "utf-8" or not tentative
    with lines_of(source, 0) as (file_lines, codec):
        columns, _ = header_of(file_lines, dialect, codec, source.name, fixed=fixed)
    return replace(source, dialect=dialect, columns=columns)


def _first_keys(source: Source) -> tuple[str, ...]:
    """The keys of the first rows of JSON Lines."""
    keys: dict[str, None] = {}
    with suppress(UnicodeDecodeError), cursor_over(source, fixed=False) as cursor:
        for row in islice(cursor, _ROWS_OF_KEYS):
            keys |= {} if isinstance(row, Flaw) else dict.fromkeys(row)
    return tuple(keys)


def digest_of(source: Source) -> str:
    """What tells that the bytes of a source changed: their hash, or what the store of a URL says of them."""
    with reading(source.name):
        if not is_url(source.url):
            return hash_file(Path(source.url))
        system, path = file_system(source.url)
        info: dict[str, Any] = system.info(path)
    for key in _VERSIONS:
        if info.get(key):
            return f"{key}:{info[key]}, {info.get('size')} bytes"
    return ""


def _described_parquet(source: Source) -> Source:
    if source.compression:
        raise ListingsError(
            f"{source.name}: is Parquet packed as {source.compression}; unpack it, Parquet packs its columns"
        )
    with cursor_over(source) as cursor:
        assert isinstance(cursor, ParquetCursor)
        return replace(source, columns=cursor.columns)


def _format(name: str, head: bytes, options: InputOptions) -> Format:
    """The format by the first bytes where they are clear, else by the ending, else by what the text is."""
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, what in _NO_TABLES:
        if head.startswith(magic):
            raise ListingsError(f"{name}: is {what}")
    ending = ending_of(name)
    if ending in FORMATS:
        return FORMATS[ending]
    text = head.decode(options.encoding or encodings.guess(head), "replace").lstrip("\ufeff \t\r\n")
    if name == STDIN_NAME or ending in ("", ".txt", ".json"):
        if text.startswith(("{", "[")):
            return "jsonl"
        if ending != ".json":
            return "csv"
    raise ListingsError(
        f"{name}: cannot tell the format from {ending!r}; use .csv, .tsv, .jsonl or .parquet, with "
        ".gz, .bz2, .xz or .zst after it where it is packed"
    )


def ending_of(name: str) -> str:
    """The ending of the format: ".csv" of "a.csv.gz"."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in ENDINGS else path.suffix


def _read(file: BinaryIO, size: int) -> bytes:
    """The first bytes; a stream may give them in pieces."""
    blocks: list[bytes] = []
    while size > 0 and (block := file.read(size)):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _size(url: str) -> int:
    if not is_url(url):
        return Path(url).stat().st_size
    system, path = file_system(url)
    return int(system.size(path) or 0)
