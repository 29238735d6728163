# SPDX-License-Identifier: Apache-2.0
"""Read and write judged pairs as Parquet or JSON lines, with what is known of their judge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from quorum.files import replacing
from quorum.retrieval.judged import Judged, JudgedError, JudgedPair, gather

SCHEMA_VERSION = 1
KIND = "quorum.judged"
SUFFIXES = (".parquet", ".jsonl")
_KEY = KIND.encode()
_BATCH = 1 << 16


def read_judged(path: Path) -> Judged:
    """Read a file that :func:`write_judged` or ``quorum judge`` wrote.

    Raises:
        JudgedError: It is missing, of another kind or schema, or a row cannot be read; names the row.
    """
    provenance, rows = _open(path)
    try:
        return gather(rows, provenance)
    except JudgedError as error:
        raise JudgedError(f"{path}: {error}") from error


def open_judged(path: Path) -> tuple[Mapping[str, Any], Iterator[JudgedPair]]:
    """What a file says of its judge, and its pairs, read as they are taken; raises as :func:`read_judged`.

    Pairs that stand twice, and items with two texts, are not noticed.
    """
    provenance, rows = _open(path)

    def named() -> Iterator[JudgedPair]:
        try:
            yield from rows
        except JudgedError as error:
            raise JudgedError(f"{path}: {error}") from error

    return provenance, named()


def read_provenance(path: Path) -> Mapping[str, Any]:
    """Read what a file says of its judge; raises JudgedError as :func:`read_judged` does."""
    return _open(path)[0]


def write_judged(path: Path, pairs: Iterable[JudgedPair], provenance: Mapping[str, Any]) -> int:
    """Write pairs to a file, which appears complete or not at all; the ending decides the format.

    Returns:
        Number of pairs.

    Raises:
        JudgedError: The ending is not known.
        OSError: It cannot be written.
    """
    writer = _write_parquet if _suffix(path) == ".parquet" else _write_lines
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        return writer(temporary, pairs, provenance)


def check_new(path: Path) -> None:
    """Refuse, before anything is judged, a file that :func:`write_judged` could not write or would replace.

    Raises:
        JudgedError: Its ending is not known, or it exists.
    """
    _suffix(path)
    if path.exists():
        raise JudgedError(f"{path}: exists already; name another file, or remove it")


def header(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The first line of a JSON lines file, and the metadata of a Parquet file."""
    return {"kind": KIND, "schema_version": SCHEMA_VERSION, "provenance": dict(provenance)}


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise JudgedError(
            f"{path}: judged pairs are written to {' or '.join(SUFFIXES)}; choose one of these endings"
        )
    return path.suffix


def _open(path: Path) -> tuple[Mapping[str, Any], Iterator[JudgedPair]]:
    if not path.is_file():
        raise JudgedError(f"{path} is no file; `quorum judge` writes one")
    return _read_parquet(path) if _suffix(path) == ".parquet" else _read_lines(path)


def _provenance(path: Path, raw: bytes | None) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(raw or b"null")
    except (msgspec.DecodeError, RecursionError) as error:
        raise JudgedError(
            f"{path}: its header cannot be read ({error}); `quorum judge` writes such files"
        ) from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise JudgedError(f"{path} has no judged pairs; `quorum judge` writes such files")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise JudgedError(
            f"{path}: schema version {found.get('schema_version')!r:.40}, this release reads"
            f" {SCHEMA_VERSION}; judge again, or use the release that wrote it"
        )
    stated = found.get("provenance")
    return stated if isinstance(stated, dict) else {}


def _read_lines(path: Path) -> tuple[Mapping[str, Any], Iterator[JudgedPair]]:
    with path.open("rb") as file:
        stated = _provenance(path, file.readline())
    decoder = msgspec.json.Decoder(JudgedPair)

    def rows() -> Iterator[JudgedPair]:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number > 1 and line.strip():
                    try:
                        yield decoder.decode(line)
                    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                        raise JudgedError(f"line {number}: {error}") from error

    return stated, rows()


def _write_lines(path: Path, pairs: Iterable[JudgedPair], provenance: Mapping[str, Any]) -> int:
    encoder, count = msgspec.json.Encoder(), 0
    with path.open("wb") as file:
        file.write(json.dumps(header(provenance), ensure_ascii=False).encode() + b"\n")
        for pair in pairs:
            file.write(encoder.encode(pair) + b"\n")
            count += 1
    return count


def _read_parquet(path: Path) -> tuple[Mapping[str, Any], Iterator[JudgedPair]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        metadata = file.schema_arrow.metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise JudgedError(f"{path}: cannot be read as Parquet ({error}); is it cut off?") from error
    stated = _provenance(path, metadata.get(_KEY))

    def rows() -> Iterator[JudgedPair]:
        number = 1
        try:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    yield msgspec.convert(row, JudgedPair)
                    number += 1
        except (msgspec.ValidationError, ValueError, OSError, pa.ArrowException) as error:
            raise JudgedError(f"row {number}: {error}") from error

    return stated, rows()


def _write_parquet(path: Path, pairs: Iterable[JudgedPair], provenance: Mapping[str, Any]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = JudgedPair.__struct_fields__
    texts = {"item", "text", "keyphrase", "value", "category"}
    schema = pa.schema(
        [(name, pa.string() if name in texts else pa.float64()) for name in names],
        metadata={_KEY: json.dumps(header(provenance), ensure_ascii=False).encode()},
    )
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(pairs):
            count += len(batch)
            columns = {name: [getattr(pair, name) for pair in batch] for name in names}
            writer.write_table(pa.table(columns, schema=schema))
    return count


def _batches(pairs: Iterable[JudgedPair]) -> Iterator[Sequence[JudgedPair]]:
    batch: list[JudgedPair] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
