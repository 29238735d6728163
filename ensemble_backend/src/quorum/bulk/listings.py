# SPDX-License-Identifier: Apache-2.0
"""Read listings from CSV, JSON Lines or Parquet, by the file's ending."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorum.runtimes.filled_file import ID_NAMES, TEXT_NAMES
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import kind_of
from quorum.votes.jsonl import load_json
from quorum_contract.errors import InvalidRequest, QuorumError
from quorum_contract.fields import join_fields

ID_COLUMNS = ID_NAMES


class ListingsError(QuorumError, ValueError):
    """A file of listings cannot be read; the message names file, row and fix."""

    code = "LISTINGS_INVALID"


@dataclass(frozen=True, slots=True)
class Listing:
    """One row to ask about.

    Attributes:
        product: Its id; the row number when the file has none.
        text: Input of the members.
        category: May be empty.
        gold: Attribute -> what is known to be right: acceptable values, labels or texts; for spans the pairs
            [words, type], for an attribute of many values all of them. Read it by :func:`gold_of`.
        row: The row of the file.
        numbered: Whether ``product`` is only the row number.
        place: File and row, for messages.
    """

    product: str
    text: str
    category: str
    gold: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    numbered: bool = False
    place: str = field(default="", compare=False)


def read_listings(
    path: Path,
    text_column: str | None = None,
    id_column: str | None = None,
    fields: Sequence[str] = (),
    *,
    can_name: bool = True,
) -> list[Listing]:
    """Read a CSV, JSONL or Parquet file.

    Columns: a text (``title``, ``text``, ``input`` or ``name``, or as named), and if present an id (the first
    of ``product``, ``id``, ``product_id``, ``sku`` and ``asin`` that a row fills, or as named), ``category``
    and ``gold`` ({attribute: [acceptable values]}). With ``fields``, and no text column named, the text is
    made of the columns of these names (:func:`quorum_contract.fields.join_fields`). ``can_name``: whether the
    caller has an option for the text column, which messages then name.

    Raises:
        ListingsError: Missing file, unknown ending, no text column or none of the name given for the id, or a
            row that cannot be read.
    """
    rows = list(_rows(path))
    if not rows:
        raise ListingsError(f"{path}: no rows")
    column = text_column or next((c for c in TEXT_NAMES if c in rows[0]), None)
    have = ", ".join(map(str, rows[0])) or "none"
    parts = tuple(fields) if not text_column and set(fields) & rows[0].keys() else ()
    if lacking := [name for name in parts if name not in rows[0]]:
        raise ListingsError(f"{path}: needs the columns {', '.join(parts)}; {lacking[0]!r} is missing")
    if not parts and (column is None or column not in rows[0]):
        wanted = f"column {text_column!r}" if text_column else f"a column {', '.join(TEXT_NAMES)}"
        advice = "Name the text column with --text-column"
        if not can_name:
            advice = f"Name the column of the text {', '.join(TEXT_NAMES[:-1])} or {TEXT_NAMES[-1]}"
        raise ListingsError(f"{path}: needs {wanted}; it has: {have}. {advice}")
    if id_column is not None and id_column not in rows[0]:
        raise ListingsError(f"{path}: has no column {id_column!r} for --id-column; it has: {have}")
    ids = ID_COLUMNS if id_column is None else (id_column,)
    return [
        _listing(f"{path}: row {number}", number, row, parts or (str(column),), ids, joined=bool(parts))
        for number, row in enumerate(rows, 1)
    ]


def gold_names(path: Path) -> tuple[str, ...]:
    """The attributes that a CSV, JSONL or Parquet file has gold for, in order of first appearance.

    The texts are not looked at: which columns they are made of may depend on the attributes. Raises
    ListingsError as :func:`read_listings` does.
    """
    golds = (
        _gold(f"{path}: row {number}", row.get("gold") or {}) for number, row in enumerate(_rows(path), 1)
    )
    return tuple(dict.fromkeys(name for gold in golds for name in gold))


def _listing(
    place: str,
    number: int,
    row: Mapping[str, Any],
    columns: Sequence[str],
    ids: Sequence[str],
    *,
    joined: bool,
) -> Listing:
    for column in columns:
        if not isinstance(row.get(column), str):
            raise ListingsError(f"{place}: {column!r} is {row.get(column)!r}, expected text")
    try:
        text = join_fields({name: row[name] for name in columns}) if joined else str(row[columns[0]])
    except InvalidRequest as error:
        raise ListingsError(f"{place}: {error}") from error
    product = next((str(row[name]) for name in ids if row.get(name) not in (None, "")), None)
    category = str(row.get("category") or "")
    gold = _gold(place, row.get("gold") or {})
    return Listing(
        product or f"row-{number}", text, category, gold, row, numbered=product is None, place=place
    )


def _gold(place: str, raw: Any) -> Mapping[str, Sequence[Any]]:
    try:
        gold = load_json(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise ListingsError(f"{place}: gold is {error}: {raw!r}") from error
    if not isinstance(gold, dict):
        raise ListingsError(f"{place}: gold is {gold!r}; give {{attribute: [acceptable values]}}")
    for attribute, values in gold.items():
        if not isinstance(values, list) or not all(isinstance(v, str) or _is_pair(v) for v in values):
            raise ListingsError(
                f"{place}: gold of {attribute!r} is {values!r}; give a list of acceptable values, or of "
                "pairs [words, type] for spans"
            )
    return gold


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    if path.suffix not in (".csv", ".jsonl", ".ndjson"):
        raise ListingsError(
            f"{path}: cannot tell the format from {path.suffix!r}; use .csv, .jsonl or .parquet"
        )
    try:
        # Spreadsheets write a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                _check_separator(path, file.readline())
                file.seek(0)
                yield from csv.DictReader(file, strict=True)
            else:
                yield from (_json_row(path, n, line) for n, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise ListingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ListingsError(f"{path}: {error}; save it as UTF-8") from error
    except csv.Error as error:
        raise ListingsError(f"{path}: {error}; fix the row, or write JSONL") from error


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        raise ListingsError(f"{path}: a text is not UTF-8 ({error}); write it anew") from error
    except (OSError, pa.ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise ListingsError(f"{path}: cannot be read as Parquet ({first}); is it cut off?") from error


def _check_separator(path: Path, header: str) -> None:
    """Refuse what some spreadsheets save as CSV."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in header and "," not in header:
            raise ListingsError(
                f"{path}: the header has no comma but {name}: save it as comma-separated, in UTF-8"
            )


def _json_row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = load_json(line)
    except ValueError as error:
        raise ListingsError(f"{path}:{number}: {error}; one object per line") from error
    if not isinstance(row, dict):
        raise ListingsError(f"{path}:{number}: {type(row).__name__}, expected an object")
    return row


def check_gold(listings: Sequence[Listing], catalogue: Catalogue) -> None:
    """Refuse pairs as gold of another kind than spans, and other gold of spans.

    Raises:
        ListingsError: Names the row and the attribute.
    """
    for listing in listings:
        for attribute, values in listing.gold.items():
            known = catalogue.get(attribute)
            pairs = kind_of(known).has_pairs
            if wrong := [value for value in values if _is_pair(value) != pairs]:
                wanted = "pairs [words, type]" if pairs else f"{known.kind}s, and no pairs"
                raise ListingsError(
                    f"{listing.place or listing.product}: gold of {attribute!r} has {wrong[0]!r:.80}, but it "
                    f"is of kind {known.kind!r}; give {wanted}"
                )


def gold_of(listing: Listing, attribute: str, catalogue: Catalogue) -> list[str]:
    """The acceptable answers, spelled like votes; a single one for spans, and for many values.

    A value outside a closed set stays unchanged; so do spans that the text does not have.
    """
    if attribute not in listing.gold:
        return []
    known = catalogue.get(attribute)
    return kind_of(known).gold(known, listing.gold[attribute], listing.text)
