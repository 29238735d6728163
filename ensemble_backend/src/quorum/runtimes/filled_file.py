# SPDX-License-Identifier: Apache-2.0
"""Read products that are already filled in, from a votes table with gold or from a plain list."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from quorum.decision.catalogue_change import named
from quorum.decision.hashed_json import unique
from quorum.runtimes.base import RuntimeConfigError
from quorum.runtimes.value_index import FilledProduct
from quorum.tasks.catalogue import Catalogue
from quorum.votes import VotesError, is_columnar, read_rows
from quorum.votes.jsonl import Row, load_json, read_lines
from quorum.votes.read import open_columns, unit_of
from quorum.votes.schema import ENDINGS, LINE_SUFFIXES, PARQUET_SUFFIX

TEXT_NAMES = ("title", "text", "input", "name")
"""Names of the text of a product; the first counts."""
ID_NAMES = ("product", "id", "product_id", "sku", "asin")
"""Names of the id of a product; the first that a row fills counts."""
_VALUE_NAMES = ("attributes", "gold")
_BATCH_ROWS = 1 << 14
_DECODER = json.JSONDecoder(object_pairs_hook=unique)


def read_products(path: Path) -> Iterator[FilledProduct]:
    """Read filled products from JSON lines or Parquet, one by one.

    A file is a votes table, of which gold counts, or a plain list: rows with a text (:data:`TEXT_NAMES`), if
    known an id (:data:`ID_NAMES`), and ``attributes`` or ``gold``, which map attributes to a value or to a
    list of acceptable ones. Attributes without a value are not filled in; "n/a" is a value.

    Raises:
        RuntimeConfigError: The file is unreadable, or a row is; with its number.
    """
    try:
        if not (is_columnar(path) or path.suffix in LINE_SUFFIXES):
            raise RuntimeConfigError(f"{path}: cannot tell the format from {path.suffix!r}; {ENDINGS}")
        if _is_table(path):
            yield from _labelled(read_rows(path), path)
        else:
            yield from _plain(path)
    except VotesError as error:
        raise RuntimeConfigError(str(error)) from error


def check_attributes(path: Path, filled: Collection[str], catalogue: Catalogue) -> None:
    """Raise RuntimeConfigError if no attribute is filled in, or none of those that a deployment asks for."""
    if not filled:
        raise RuntimeConfigError(
            f"{path}: no attribute of any product is filled in; give `attributes`, or gold in a votes table"
        )
    if catalogue.attributes and catalogue.attributes.keys().isdisjoint(filled):
        raise RuntimeConfigError(
            f"{path}: fills in {named(map(repr, filled))}, and the deployment asks for "
            f"{named(map(repr, catalogue.attributes))}; write the same names in both"
        )


def _is_table(path: Path) -> bool:
    """Whether a file is a votes table, by its columns or its first row."""
    if is_columnar(path):
        open_columns(path)
        if path.suffix != PARQUET_SUFFIX:
            return True
        import pyarrow.parquet as pq

        return "attribute" in pq.read_schema(path).names
    for line in read_lines(path):
        if line.strip():
            try:
                row = load_json(line)
            except ValueError:
                return False
            return isinstance(row, dict) and "votes" in row
    return False


def _labelled(rows: Iterable[Row], path: Path) -> Iterator[FilledProduct]:
    """The products of a votes table; the rows of a product that follow each other are one."""
    for (product, title), cells in groupby(rows, key=lambda row: (row.cell.product, row.cell.title)):
        values: dict[str, tuple[str, ...]] = {}
        for number, _, cell, _ in cells:
            if not title.strip():
                raise RuntimeConfigError(
                    f"{path}, {unit_of(path)} {number}: no `title`, which values are looked up in"
                )
            if cell.gold:
                values[cell.attribute] = cell.gold
        if values:
            yield FilledProduct(product, title, values)


def _plain(path: Path) -> Iterator[FilledProduct]:
    """The products of a plain list."""
    rows = _column_rows(path) if is_columnar(path) else _line_rows(path)
    for number, row in rows:
        try:
            product = _product(row)
        except ValueError as error:
            raise RuntimeConfigError(f"{path}, {unit_of(path)} {number}: {error}") from error
        if product.values:
            yield product


def _line_rows(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            try:
                row = load_json(line, _DECODER)
            except ValueError as error:
                raise RuntimeConfigError(f"{path}, line {number}: {error}") from error
            yield number, row


def _column_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_BATCH_ROWS)
            yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), start=1)
    except (OSError, pa.ArrowException) as error:
        raise RuntimeConfigError(f"{path}: cannot be read as Parquet ({error}); is it cut off?") from error


def _product(row: object) -> FilledProduct:
    if not isinstance(row, dict):
        raise VotesError(f"{type(row).__name__}, expected an object with a text and attributes")
    text = next((row[name] for name in TEXT_NAMES if row.get(name)), None)
    if not isinstance(text, str) or not text.strip():
        raise VotesError(
            f"the text is {text!r}; give the text of the product as one of {', '.join(TEXT_NAMES)}"
        )
    given = next((row[name] for name in _VALUE_NAMES if row.get(name) is not None), None)
    # Parquet has maps, which are read as lists of tuples.
    pairs = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise VotesError("no `attributes`; give {attribute: value}, {} where nothing is filled in")
    product = next((str(row[name]) for name in ID_NAMES if row.get(name) not in (None, "")), "")
    try:
        values = unique([(name, _values(name, value)) for name, value in pairs])
    except (TypeError, ValueError) as error:
        raise VotesError(
            f"`attributes`: {error}; give {{attribute: value}}, a value being a text, a number, a list of"
            " acceptable ones, or null"
        ) from error
    return FilledProduct(product, text, {name: found for name, found in values.items() if found})


def _values(name: object, value: object) -> tuple[str, ...]:
    """The acceptable values of an attribute; none where it is not filled in."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} cannot name an attribute")
    found: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, str | int | float | None):
            raise VotesError(f"{name!r} is {value!r}")
        if isinstance(one, float) and not math.isfinite(one):
            raise VotesError(f"{name!r} is {one!r}, which is no value")
        if one is not None and str(one).strip():
            found.append(str(one))
    return tuple(found)
