# SPDX-License-Identifier: Apache-2.0
"""Ask about every row of a pandas DataFrame or a pyarrow Table; needs the extra of its library.

``pip install "quorum-client[pandas]"`` or ``"quorum-client[arrow]"``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from quorum_client._connection import UNSET, Unset
from quorum_client._limits import AUTO, Concurrency
from quorum_client._results import Extraction, Item
from quorum_client._room import AWAY_S, OnWait
from quorum_client.errors import InvalidRequest, QuorumError
from quorum_contract import BULK, Priority
from quorum_contract.checks import encode_attributes

if TYPE_CHECKING:
    from quorum_client._sync import Client

Frame = TypeVar("Frame")
Text = str | Sequence[str] | Mapping[str, str]

_CONFIDENCE = "_confidence"
_ERROR = "error"
_ROWS = 1024


def extract_frame(
    client: Client,
    frame: Frame,
    text: Text,
    attributes: Sequence[str],
    *,
    id: str | None = None,  # noqa: A002
    category: str | None = None,
    concurrency: Concurrency = AUTO,
    timeout_s: float | Unset = UNSET,
    channel: str | None = None,
    priority: Priority = BULK,
    away_s: float = AWAY_S,
    on_wait: OnWait | None = None,
    lazy: bool = False,
) -> Frame:
    """Add columns with the answers on each row: ``brand``, ``brand_confidence`` and so on, and ``error``.

    A value is text, ``"n/a"`` where the text does not say, and missing where none was decided or the row
    failed; a confidence is a float64 in [0, 1], missing where the row failed; ``error`` is the message of a
    row that failed, and missing else. No row stops the others.

    Args:
        client: An open client.
        frame: A ``pandas.DataFrame``, whose index is kept, or a ``pyarrow.Table``; it is not changed.
        text: Column of the product's text; of several, what is not empty is joined by line breaks. A mapping
            from names of ``fields`` to columns for attributes that are asked of named fields.
        attributes: Names of the attributes wanted.
        id: Column of the product's identifier.
        category: Column of the product's category.
        concurrency: As for :meth:`quorum_client.Client.extract_many`, like the following arguments.
        timeout_s: As there.
        channel: As there.
        priority: As there.
        away_s: As there.
        on_wait: As there.
        lazy: As there.

    Raises:
        InvalidRequest: ``frame`` is of another type, lacks a column, has two of one name or one of those that
            would be added, or has cells that hold several values; ``text`` names no column; ``attributes``
            break the contract. Nothing was asked.
    """
    encode_attributes(attributes)
    table = _table_of(frame)
    texts = dict(text) if isinstance(text, Mapping) else [text] if isinstance(text, str) else list(text)
    if not texts:
        raise InvalidRequest("text: no column; name the column of the product's text, or several")
    added = [*attributes, *(name + _CONFIDENCE for name in attributes), _ERROR]
    columns = [*(texts.values() if isinstance(texts, dict) else texts), *filter(None, (id, category))]
    _check_columns(table, columns, added)

    def items() -> Iterator[Item]:
        for row in table.rows(columns):
            product = _cell(row[id]) if id else ""
            yield Item(
                _text(row, texts), attributes, _cell(row[category]) if category else "", product or None
            )

    results = client.extract_many(
        items(),
        concurrency=concurrency,
        errors="return",
        timeout_s=timeout_s,
        channel=channel,
        priority=priority,
        away_s=away_s,
        on_wait=on_wait,
        lazy=lazy,
    )
    made: Frame = table.with_columns(_columns(results, attributes))
    return made


class _Column(NamedTuple):
    """A column to add; None is missing."""

    name: str
    values: list[Any]
    dtype: Literal["string", "float64"] = "string"


def _columns(results: Iterator[Extraction | QuorumError], attributes: Sequence[str]) -> list[_Column]:
    """The columns to add: values, confidences, errors."""
    values = [_Column(name, []) for name in attributes]
    confidences = [_Column(name + _CONFIDENCE, [], "float64") for name in attributes]
    errors = _Column(_ERROR, [])
    for result in results:
        answers = None if isinstance(result, QuorumError) else result
        for name, value, confidence in zip(attributes, values, confidences, strict=True):
            value.values.append(answers and answers[name].value)
            confidence.values.append(answers and answers[name].confidence)
        errors.values.append(None if answers else str(result))
    return [*values, *confidences, errors]


class _Pandas:
    """A ``pandas.DataFrame``."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.names = list(frame.columns)

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for values in zip(*(self._frame[name] for name in columns), strict=True):
            yield dict(zip(columns, values, strict=True))

    def several(self, column: str) -> str | None:
        """The type of a cell that holds several values; ``None`` if none does."""
        from pandas.api.types import is_list_like

        return next((type(cell).__name__ for cell in self._frame[column] if is_list_like(cell)), None)

    def with_columns(self, columns: Sequence[_Column]) -> Any:
        import pandas as pd

        index = self._frame.index
        series = {name: pd.Series(values, index=index, dtype=dtype) for name, values, dtype in columns}
        return pd.concat([self._frame, pd.DataFrame(series, index=index)], axis=1)


class _Arrow:
    """A ``pyarrow.Table``."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.names = list(table.column_names)

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for batch in self._table.select(list(dict.fromkeys(columns))).to_batches(max_chunksize=_ROWS):
            yield from batch.to_pylist()

    def several(self, column: str) -> str | None:
        """The type of the cells if they hold several values, else ``None``."""
        import pyarrow as pa

        kind = self._table.schema.field(column).type
        return str(kind) if pa.types.is_nested(kind) else None

    def with_columns(self, columns: Sequence[_Column]) -> Any:
        import pyarrow as pa

        table = self._table
        for name, values, dtype in columns:
            table = table.append_column(name, pa.array(values, pa.type_for_alias(dtype)))
        return table


def _table_of(frame: object) -> _Pandas | _Arrow:
    """The frame, by its library; that of another is not imported."""
    library = type(frame).__module__.partition(".")[0]
    if library == "pandas" and hasattr(frame, "columns"):
        return _Pandas(frame)
    if library == "pyarrow" and hasattr(frame, "column_names"):
        return _Arrow(frame)
    kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
    raise InvalidRequest(f"frame: a {kind}; give a pandas.DataFrame or a pyarrow.Table")


def _check_columns(table: _Pandas | _Arrow, wanted: Sequence[str], added: Sequence[str]) -> None:
    names = table.names
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InvalidRequest(f"frame: no column {missing[0]!r}; it has {', '.join(map(repr, names))}")
    doubled = [name for name in wanted if names.count(name) > 1]
    if doubled:
        raise InvalidRequest(f"frame: two columns are called {doubled[0]!r}; rename one")
    clash = [name for name in added if name in names]
    if clash:
        raise InvalidRequest(f"frame: has a column {clash[0]!r} already; rename it")
    if len(set(added)) < len(added):
        twice = next(name for name in added if added.count(name) > 1)
        raise InvalidRequest(f"frame: two columns would be {twice!r}; ask for one of the two attributes")
    for name in wanted:
        kind = table.several(name)
        if kind:
            raise InvalidRequest(f"frame: cells of column {name!r} hold {kind}; give text, joined from it")


def _text(row: Mapping[str, Any], columns: Sequence[str] | Mapping[str, str]) -> str | dict[str, str]:
    if isinstance(columns, Mapping):
        return {field: _cell(row[column]) for field, column in columns.items()}
    return "\n".join(filter(None, (_cell(row[column]) for column in columns)))


def _cell(value: Any) -> str:
    """A cell as text; "" where it is missing: None, NaN or pandas.NA, of which none is equal to itself."""
    if isinstance(value, str):
        return value
    is_missing = value is None or type(value).__name__ == "NAType" or value != value
    return "" if is_missing else str(value)
