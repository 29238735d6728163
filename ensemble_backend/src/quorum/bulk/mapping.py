# SPDX-License-Identifier: Apache-2.0
"""From the columns of a row to a listing: text, id, category and gold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.runtimes.filled_file import ID_NAMES, TEXT_NAMES
from quorum.votes.jsonl import load_json
from quorum_contract.checks import encode_category, encode_text, is_blank
from quorum_contract.fields import join_fields


@dataclass(frozen=True, slots=True)
class Listing:
    """One row to ask about.

    Attributes:
        product: Its id; the row number when the file has none.
        text: Input of the members.
        category: May be empty.
        gold: Attribute -> what is known to be right: acceptable values, labels or texts; for spans the pairs
            [words, type], for an attribute of many values all of them. Read it by
            :func:`quorum.bulk.listings.gold_of`.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """The columns that a user names; what is not named is looked for.

    Attributes:
        text: Columns of the text, whose values are joined by line ends; empty: ``fields``, else the first of
            ``title``, ``text``, ``input`` and ``name`` that there is.
        id: Column of the id; None: the first of ``product``, ``id``, ``product_id``, ``sku`` and ``asin``
            that a row fills.
        category: Column of the category; None: ``category``, if there is one.
        gold: Column of the gold; None: ``gold``, if there is one.
        fields: Fields that the attributes to ask about are made for: with no text named, and any of these
            columns there, the text is made of them (:func:`quorum_contract.fields.join_fields`).
        options: How messages call the options that name the text and the id, such as "--text"; "" where the
            caller has none.
    """

    text: tuple[str, ...] = ()
    id: str | None = None
    category: str | None = None
    gold: str | None = None
    fields: tuple[str, ...] = ()
    options: tuple[str, str] = ("--text", "--id")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """Which columns make a listing.

    Attributes:
        text: Columns of the text.
        as_fields: Whether each becomes a line ``name: value``; else several are joined by line ends.
        ids: Columns of the id, of which the first that a row fills counts.
        category: Column of the category.
        gold: Column of the gold.
    """

    text: tuple[str, ...]
    as_fields: bool = False
    ids: tuple[str, ...] = ID_NAMES
    category: str = "category"
    gold: str = "gold"

    @classmethod
    def of(cls, names: ColumnNames, columns: Sequence[str], source: str) -> ColumnMap:
        """Find the columns.

        Args:
            names: What the user named.
            columns: The columns that there are.
            source: The file, for messages.

        Raises:
            ListingsError: A column that is named is missing, or no text is found.
        """
        have = ", ".join(map(str, columns)) or "none"
        text_option, id_option = names.options
        as_fields = not names.text and not set(names.fields).isdisjoint(columns)
        text = names.text or (names.fields if as_fields else ())
        if as_fields and (missing := [name for name in text if name not in columns]):
            raise ListingsError(f"{source}: needs the columns {', '.join(text)}; {missing[0]!r} is missing")
        if not text:
            text = tuple(name for name in TEXT_NAMES if name in columns)[:1]
        lacking = [name for name in text if name not in columns]
        if not text or lacking:
            wanted = f"column {lacking[0]!r}" if text else f"a column {', '.join(TEXT_NAMES)}"
            advice = f"Name the text column with {text_option}"
            if not text_option:
                advice = f"Name the column of the text {', '.join(TEXT_NAMES[:-1])} or {TEXT_NAMES[-1]}"
            raise ListingsError(
                f"{source}: needs {wanted}; it has: {have}. {advice}{_hint(columns, lacking if text else ())}"
            )
        for name, option in ((names.id, id_option), (names.category, "--category"), (names.gold, "--gold")):
            if name is not None and name not in columns:
                raise ListingsError(
                    f"{source}: has no column {name!r} for {option}; it has: {have}{_hint(columns, [name])}"
                )
        return cls(
            text=text,
            as_fields=as_fields,
            ids=ID_NAMES if names.id is None else (names.id,),
            category=names.category or "category",
            gold=names.gold or "gold",
        )

    def listing(self, row: Row, *, checked: bool = True) -> Listing | BadRow:
        """The listing of a row.

        Args:
            row: The row.
            checked: Whether a text or a category that the server would refuse, as a text that is empty or too
                long, makes the row bad.
        """
        values = row.values
        category = str(values.get(self.category) or "")
        try:
            text = self._text(values)
            if checked:
                if is_blank(text):
                    raise ListingsError(self._empty)
                encode_text(text)
                encode_category(category)
            gold = parse_gold(values.get(self.gold) or {})
        except ValueError as error:
            return BadRow(row.index, row.place, str(error), raw_of(values))
        product = next((str(values[name]) for name in self.ids if values.get(name) not in (None, "")), None)
        numbered = product is None
        return Listing(
            product or f"row-{row.index + 1}", text, category, gold, values, numbered, place=row.place
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that make a listing, whether a file has them or not."""
        return (*self.text, *self.ids, self.category, self.gold)

    def in_words(self) -> str:
        """Such as "the text is title and description, the id sku"."""
        ids = "the first of " * (len(self.ids) > 1) + ", ".join(self.ids)
        return f"the text is {' and '.join(self.text)}, the id {ids}"

    def _text(self, values: Mapping[str, Any]) -> str:
        if len(self.text) == 1 and not self.as_fields:
            text = values.get(self.text[0])
            if text is None:
                raise ListingsError(self._empty)
            if not isinstance(text, str):
                raise ListingsError(f"{self.text[0]!r} is {text!r:.80}, expected text")
            return text
        for name in self.text:
            given = values.get(name)
            if not isinstance(given, str) and (self.as_fields or given is not None):
                raise ListingsError(f"{name!r} is {given!r:.80}, expected text")
        if self.as_fields:
            return join_fields({name: values[name] for name in self.text})
        texts = [values[name] for name in self.text if (values.get(name) or "").strip()]
        if not texts:
            raise ListingsError(self._empty)
        return "\n".join(texts)

    @property
    def _empty(self) -> str:
        if len(self.text) == 1:
            return f"column {self.text[0]!r} is empty"
        return f"columns {', '.join(map(repr, self.text))} are empty"


def _hint(columns: Sequence[str], lacking: Sequence[str]) -> str:
    """What may be wrong where a column is missing: its spelling, or the delimiter."""
    names = [str(column) for column in columns]
    for name in names:
        if delimiter := next((sign for sign in _DELIMITERS if sign in name), None):
            return f". {name!r} holds {delimiter!r}: if that parts the columns, name it with --delimiter"
    close = [near for name in lacking for near in get_close_matches(name, names, 1)]
    return f"; did you mean {close[0]!r}?" if close else ""


_DELIMITERS = (";", "\t", "|", ",")


def parse_gold(raw: Any) -> Mapping[str, Sequence[Any]]:
    """The gold of a row, an object or JSON; raises ListingsError for what is none."""
    try:
        gold = load_json(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise ListingsError(f"gold is {error}: {raw!r}") from error
    if not isinstance(gold, dict):
        raise ListingsError(f"gold is {gold!r}; give {{attribute: [acceptable values]}}")
    for attribute, values in gold.items():
        if not isinstance(values, list) or not all(isinstance(v, str) or is_pair(v) for v in values):
            raise ListingsError(
                f"gold of {attribute!r} is {values!r}; give a list of acceptable values, or of "
                "pairs [words, type] for spans"
            )
    return gold


def is_pair(value: object) -> bool:
    """Whether a value of gold is a pair [words, type]."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def raw_of(values: Mapping[str, Any]) -> str:
    """The values of a row as JSON, for people."""
    return json.dumps(dict(values), ensure_ascii=False, default=str)
