# SPDX-License-Identifier: Apache-2.0
"""Listings in and answers out: CSV and JSON Lines, by the file's ending."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from quorum.cli.console import CommandError
from quorum.tasks.catalogue import Catalogue
from quorum_client import Extraction

_TEXT_COLUMNS = ("title", "text", "input", "name")
ID_COLUMNS = ("product", "id", "product_id", "sku", "asin")


@dataclass(frozen=True, slots=True)
class Listing:
    """One row to ask about.

    Attributes:
        product: Its id; the row number when the file has none.
        text: What the members read.
        category: May be empty.
        gold: Attribute -> acceptable values, where the file says so.
        row: The row as it was read.
        numbered: Whether ``product`` is only the row number.
    """

    product: str
    text: str
    category: str
    gold: Mapping[str, Sequence[str]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    numbered: bool = False


def read_listings(path: Path, text_column: str | None = None, id_column: str | None = None) -> list[Listing]:
    """Read a CSV or JSONL file.

    Columns: a text (``title``, ``text``, ``input`` or ``name``, or as named), and if present an id (the first
    of ``product``, ``id``, ``product_id``, ``sku`` and ``asin`` that a row fills, or as named), ``category``
    and ``gold`` ({attribute: [acceptable values]}).

    Raises:
        CommandError: Missing file, unknown ending, no text column or none of the name given for the id, or a
            row that cannot be read.
    """
    rows = list(_rows(path))
    if not rows:
        raise CommandError(f"{path}: no rows")
    column = text_column or next((c for c in _TEXT_COLUMNS if c in rows[0]), None)
    if column is None or column not in rows[0]:
        have = ", ".join(map(str, rows[0])) or "none"
        wanted = f"column {text_column!r}" if text_column else f"a column {', '.join(_TEXT_COLUMNS)}"
        raise CommandError(f"{path}: needs {wanted}; it has: {have}. Name the text column with --text-column")
    if id_column is not None and id_column not in rows[0]:
        have = ", ".join(map(str, rows[0]))
        raise CommandError(f"{path}: has no column {id_column!r} for --id-column; it has: {have}")
    ids = ID_COLUMNS if id_column is None else (id_column,)
    return [_listing(path, number, row, column, ids) for number, row in enumerate(rows, 1)]


def _listing(path: Path, number: int, row: Mapping[str, Any], column: str, ids: Sequence[str]) -> Listing:
    text = row.get(column)
    if not isinstance(text, str):
        raise CommandError(f"{path}: row {number}: {column!r} is {text!r}, expected text")
    gold = _gold(path, number, row.get("gold") or {})
    product = next((str(row[name]) for name in ids if row.get(name) not in (None, "")), None)
    category = str(row.get("category") or "")
    return Listing(product or f"row-{number}", text, category, gold, row, numbered=product is None)


def _gold(path: Path, number: int, raw: Any) -> Mapping[str, Sequence[str]]:
    try:
        gold = json.loads(raw) if isinstance(raw, str) else raw
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}: row {number}: gold is not JSON ({error.msg}): {raw!r}") from error
    if not isinstance(gold, dict):
        raise CommandError(f"{path}: row {number}: gold is {gold!r}; give {{attribute: [acceptable values]}}")
    for attribute, values in gold.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise CommandError(
                f"{path}: row {number}: gold of {attribute!r} is {values!r}; give a list of acceptable values"
            )
    return gold


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        # Spreadsheets put a byte order mark in front of their UTF-8.
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
            elif path.suffix in (".jsonl", ".ndjson"):
                yield from (_json_row(path, n, line) for n, line in enumerate(file, 1) if line.strip())
            else:
                raise CommandError(f"{path}: cannot tell the format from {path.suffix!r}; use .csv or .jsonl")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: {error}; save it as UTF-8") from error
    except csv.Error as error:
        raise CommandError(f"{path}: {error}; mend the row, or write JSONL") from error


def _json_row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}:{number}: not JSON ({error.msg}); one object per line") from error
    if not isinstance(row, dict):
        raise CommandError(f"{path}:{number}: {type(row).__name__}, expected an object")
    return row


class Sink(Protocol):
    """Takes answers one by one, so that what was answered is on disk whatever comes next."""

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""


class JsonlSink:
    """One JSON object per listing: value, confidence and votes per attribute, or ``error``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        data: dict[str, Any] = {
            "product": listing.product,
            "category": listing.category,
            "title": listing.text,
        }
        data |= {"error": str(result)} if isinstance(result, Exception) else as_json(result)
        self._file.write(json.dumps(data, ensure_ascii=False) + "\n")
        self._file.flush()


class CsvSink:
    """The columns that were read, then value and confidence per attribute, then ``error``."""

    def __init__(self, file: TextIO, columns: Sequence[str], attributes: Sequence[str]) -> None:
        self._file = file
        self._attributes = attributes
        added = [name for a in attributes for name in (a, f"{a}_confidence")]
        clash = sorted(set(columns) & {*added, "error"})
        if clash:
            raise CommandError(f"the input has a column {clash[0]!r} already; rename it or write JSONL")
        self._csv = csv.DictWriter(file, [*columns, *added, "error"], extrasaction="ignore")
        self._csv.writeheader()

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        row = {name: _csv_cell(value) for name, value in listing.row.items()}
        if isinstance(result, Exception):
            row["error"] = str(result)
        else:
            for answer in result.answers:
                row[answer.attribute] = answer.value or ""
                row[f"{answer.attribute}_confidence"] = f"{answer.confidence:.4f}"
        self._csv.writerow(row)
        self._file.flush()


def _csv_cell(value: Any) -> Any:
    """Objects and lists, such as the gold of JSON Lines, as JSON: `read_listings` takes them back."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


class VotesSink:
    """A votes table: one row per listing and attribute, as `quorum learn` reads it."""

    def __init__(self, file: TextIO, catalogue: Catalogue) -> None:
        self._file = file
        self._catalogue = catalogue

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write the rows of one listing; a listing that failed has no votes to write."""
        if isinstance(result, Exception):
            return
        for answer in result.answers:
            cell = {
                "product": listing.product,
                "category": listing.category,
                "title": listing.text,
                "attribute": answer.attribute,
                "gold": gold_of(listing, answer.attribute, self._catalogue),
                "votes": {vote.member: vote.value for vote in answer.votes},
                **_origin(result),
            }
            self._file.write(json.dumps(cell, ensure_ascii=False) + "\n")
        self._file.flush()


def gold_of(listing: Listing, attribute: str, catalogue: Catalogue) -> list[str]:
    """The acceptable values, spelled as votes are; a value outside a closed set stays as it is."""
    known = catalogue.get(attribute)
    return [known.normalise(value) or value for value in listing.gold.get(attribute, ())]


def as_json(result: Extraction) -> dict[str, Any]:
    """An extraction as plain data."""
    return {
        "attributes": {
            answer.attribute: {
                "value": answer.value,
                "confidence": round(answer.confidence, 4),
                "votes": {v.member: {"value": v.value, "status": v.status.name} for v in answer.votes},
            }
            for answer in result.answers
        },
        **_origin(result),
    }


def _origin(result: Extraction) -> dict[str, Any]:
    """Which channel answered with which weights, and how fast: what `quorum canary report` reads."""
    origin: dict[str, Any] = {
        "channel": result.channel,
        "weights_version": result.weights_version,
        "latency_ms": round(result.latency_s * 1e3, 2),
    }
    return origin | ({"fallback_from": result.fallback_from} if result.fallback_from else {})


def parse_share(text: str) -> float:
    """A share as people write it: "5%" or "0.05".

    Raises:
        CommandError: Neither, or outside 0 to 100 %.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise CommandError(f"share {text!r}: write a percentage or a number from 0 to 1, such as 5% or 0.05")
    return share
