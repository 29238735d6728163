# SPDX-License-Identifier: Apache-2.0
"""Read files of keyphrases, line by line: text, JSON lines, CSV (each also as ``.gz``) or Parquet.

A line that cannot be used is no error but a :class:`Broken`, with its number and the reason. No line is held
longer than it takes to look at it, and none is read beyond :data:`LONGEST_LINE`.
"""

from __future__ import annotations

import csv
import gzip
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from quorum.retrieval.filters import normal_form
from quorum_contract import MAX_CATEGORY_BYTES
from quorum_contract.errors import QuorumError
from quorum_contract.fields import one_line

MAX_KEYPHRASE_BYTES = 128
LONGEST_LINE = 1 << 20
SEPARATOR = "|"
"""Between several categories of a CSV."""
ENDINGS = (".txt", ".csv", ".jsonl", ".ndjson", ".parquet")
_SHOWN = 200
_ROWS_AT_ONCE = 1 << 14


class KeyphrasesError(QuorumError, ValueError):
    """A file of keyphrases cannot be used; the message names the file and the fix."""

    code = "KEYPHRASES_INVALID"


class Keyphrase(NamedTuple):
    """A usable line.

    Attributes:
        text: One line of at most 128 bytes of UTF-8, without control characters.
        categories: It fits items of these; none: all.
        normal: See :func:`quorum.retrieval.filters.normal_form`.
    """

    text: str
    categories: tuple[str, ...]
    normal: str


class Broken(NamedTuple):
    """A line that cannot be used.

    Attributes:
        line: Its number, from 1; of Parquet, that of the row.
        reason: In words.
        content: Its beginning.
    """

    line: int
    reason: str
    content: str


class _Row(msgspec.Struct):
    keyphrase: Any = None
    category: Any = None
    categories: Any = None


def read_lines(path: Path) -> Iterator[Keyphrase | Broken]:
    """Yield every line, usable or not, in the order of the file.

    Raises:
        KeyphrasesError: The file is missing or damaged as a whole, of another format, or names no column
            ``keyphrase``.
    """
    name = path.name.removesuffix(".gz")
    ending = Path(name).suffix
    if ending not in ENDINGS or (ending == ".parquet" and path.suffix == ".gz"):
        raise KeyphrasesError(
            f"{path}: cannot tell the format from its ending; use {', '.join(ENDINGS[:-1])} (each also with"
            " .gz) or .parquet"
        )
    if not path.is_file():
        raise KeyphrasesError(f"{path} is no file; write keyphrases into it, one a line")
    if ending == ".parquet":
        yield from _parquet(path)
        return
    reader = {".txt": _text, ".csv": _csv}.get(ending, _json)
    try:
        with path.open("rb") as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            yield from reader(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise KeyphrasesError(f"{path}: cannot be unpacked ({error}); is it cut off?") from error


def _checked(number: int, content: str, text: Any, categories: Any) -> Keyphrase | Broken:
    try:
        keyphrase = one_line(_usable(text, "the keyphrase"))
        if not keyphrase:
            raise ValueError("empty")
        if len(keyphrase.encode()) > MAX_KEYPHRASE_BYTES:
            raise ValueError(f"longer than {MAX_KEYPHRASE_BYTES} bytes")
        if not any(sign.isalnum() for sign in keyphrase):
            raise ValueError("without a letter or digit")
        return Keyphrase(keyphrase, _categories(categories), normal_form(keyphrase))
    except ValueError as reason:
        return Broken(number, str(reason), content[:_SHOWN])


def _usable(text: Any, what: str) -> str:
    """A text without control characters; raises ValueError with the reason."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
    if text is None:
        raise ValueError("empty")
    if not isinstance(text, str):
        raise ValueError(f"{what} is a {type(text).__name__}, not a text")  # noqa: TRY004, a reason like others
    if text.isascii() and text.isprintable():
        return text
    # Of what Python calls space, some are control characters that no buyer types.
    kinds = {unicodedata.category(sign) for sign in text if sign not in "\t\r\n"}
    if "Cs" in kinds:
        raise ValueError("not UTF-8")
    if "Cc" in kinds:
        raise ValueError("control characters")
    return text


def _categories(raw: Any) -> tuple[str, ...]:
    names = [] if raw is None else [raw] if isinstance(raw, str | bytes) else raw
    if not isinstance(names, Sequence):
        raise ValueError(f"categories are a {type(names).__name__}, not a list")  # noqa: TRY004, as above
    found = [one_line(_usable(name, "a category")) for name in names]
    if any(len(name.encode()) > MAX_CATEGORY_BYTES for name in found):
        raise ValueError(f"a category has more than {MAX_CATEGORY_BYTES} bytes")
    return tuple(dict.fromkeys(filter(None, found)))


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines without their ends; of one that is longer than a line may be, the beginning."""
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        rest = raw
        while not rest.endswith(b"\n") and (rest := file.readline(LONGEST_LINE)):
            pass
        # Spreadsheets write a byte order mark.
        yield number, (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).rstrip(b"\r\n")


def _shown(raw: bytes) -> str:
    return raw[:_SHOWN].decode("utf-8", "backslashreplace")


def _text(_path: Path, file: IO[bytes]) -> Iterator[Keyphrase | Broken]:
    for number, raw in _lines(file):
        yield _checked(number, _shown(raw), raw, None)


def _json(_path: Path, file: IO[bytes]) -> Iterator[Keyphrase | Broken]:
    decoder = msgspec.json.Decoder(_Row)
    for number, raw in _lines(file):
        try:
            row = decoder.decode(raw) if raw.strip() else _Row()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"no JSON object ({error})"
            yield Broken(number, reason, _shown(raw))
            continue
        yield _checked(number, _shown(raw), row.keyphrase, row.categories or row.category)


def _csv(path: Path, file: IO[bytes]) -> Iterator[Keyphrase | Broken]:
    """Each line is a row of its own: an open quotation mark does not swallow the rest of the file."""
    lines = _lines(file)
    _, head = next(lines, (0, b""))
    names = [name.strip() for name in _cells(head) or []]
    if "keyphrase" not in names:
        raise KeyphrasesError(
            f"{path}: its first line names the columns {', '.join(names)[:_SHOWN] or '(none)'}, expected is"
            " `keyphrase`, and perhaps `category` or `categories`, separated by commas"
        )
    for number, raw in lines:
        cells = _cells(raw)
        if cells is None:
            yield Broken(number, "a quotation mark stays open, or stands inside", _shown(raw))
            continue
        row = dict(zip(names, cells, strict=False))
        several = [part for part in row.get("categories", "").split(SEPARATOR) if part.strip()]
        yield _checked(number, _shown(raw), row.get("keyphrase"), several or row.get("category"))


def _cells(raw: bytes) -> list[str] | None:
    try:
        return next(csv.reader([raw.decode("utf-8", "surrogateescape")], strict=True), [])
    except csv.Error:
        return None


def _parquet(path: Path) -> Iterator[Keyphrase | Broken]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "keyphrase" not in names:
                raise KeyphrasesError(
                    f"{path}: has the columns {', '.join(names)[:_SHOWN]}, expected is `keyphrase`"
                )
            wanted = [name for name in ("keyphrase", "category", "categories") if name in names]
            number = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                columns = {name: _bytes(batch.column(name)) for name in wanted}
                for at, text in enumerate(columns["keyphrase"]):
                    number += 1
                    row = {name: values[at] for name, values in columns.items()}
                    shown = _shown(text) if isinstance(text, bytes) else str(text)
                    yield _checked(number, shown, text, row.get("categories") or row.get("category"))
    except (OSError, pa.ArrowException) as error:
        raise KeyphrasesError(f"{path}: cannot be read as Parquet ({error}); is it cut off?") from error


def _bytes(column: Any) -> list[Any]:
    """Python values, texts as bytes: Parquet does not promise that they are UTF-8."""
    import pyarrow as pa

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_list(column.type) and is_text(column.type.value_type):
        column = column.cast(pa.list_(pa.binary()))
    values: list[Any] = column.to_pylist()
    return values
