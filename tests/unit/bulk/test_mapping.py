# SPDX-License-Identifier: Apache-2.0
"""Which columns make a listing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.mapping import ColumnMap, ColumnNames, Listing

COLUMNS = ("sku", "title", "about", "kind", "id")


def listing(names: ColumnNames, **values: Any) -> Listing:
    found = ColumnMap.of(names, COLUMNS, "a.csv").listing(Row(6, "a.csv: row 7", values))
    assert isinstance(found, Listing)
    return found


def bad(names: ColumnNames, **values: Any) -> str:
    found = ColumnMap.of(names, COLUMNS, "a.csv").listing(Row(6, "a.csv: row 7", values))
    assert isinstance(found, BadRow)
    assert (found.index, found.place) == (6, "a.csv: row 7")
    return found.reason


def test_several_text_columns_are_joined_without_the_empty_ones() -> None:
    names = ColumnNames(text=("title", "about"))
    assert listing(names, title="a shoe", about="red\nsoft").text == "a shoe\nred\nsoft"
    assert listing(names, title="a shoe", about=" ").text == "a shoe"
    assert listing(names, title=None, about="red").text == "red"
    assert bad(names, title="", about=None) == "columns 'title', 'about' are empty"
    assert bad(names, title="a", about=5) == "'about' is 5, expected text"


def test_fields_are_lines_of_name_and_value_unless_the_text_is_named() -> None:
    assert listing(ColumnNames(fields=("title", "about")), title="a", about="b").text == "title: a\nabout: b"
    assert listing(ColumnNames(text=("title",), fields=("title", "about")), title="a").text == "a"
    assert listing(ColumnNames(fields=("query",)), title="a").text == "a", "none of the fields is a column"
    with pytest.raises(ListingsError, match=re.escape("needs the columns title, query; 'query' is missing")):
        ColumnMap.of(ColumnNames(fields=("title", "query")), COLUMNS, "a.csv")


def test_columns_that_are_named_go_before_the_usual_ones() -> None:
    values = {"sku": "s", "title": "t", "about": "x", "kind": "k", "id": 0, "category": "c"}
    found = listing(ColumnNames(), **values)
    assert (found.product, found.text, found.category, found.numbered) == ("0", "t", "c", False)
    found = listing(ColumnNames(text=("about",), id="sku", category="kind"), **values)
    assert (found.product, found.text, found.category) == ("s", "x", "k")
    found = listing(ColumnNames(id="sku"), **{**values, "sku": ""})
    assert (found.product, found.numbered) == ("row-7", True)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            {"text": ("title", "size")},
            "needs column 'size'; it has: sku, title, about, kind, id. Name the text",
        ),
        ({"id": "ean"}, "has no column 'ean' for --id; it has: sku, "),
        ({"category": "group"}, "has no column 'group' for --category"),
        (
            {"id": "skuu"},
            "it has: sku, title, about, kind, id; did you mean 'sku'?",
        ),
        ({"gold": "truth"}, "has no column 'truth' for --gold"),
    ],
)
def test_columns_that_are_missing_are_named(names: dict[str, Any], words: str) -> None:
    with pytest.raises(ListingsError, match=rf"^a\.csv: .*{re.escape(words)}"):
        ColumnMap.of(ColumnNames(**names), COLUMNS, "a.csv")


def test_a_column_that_holds_a_delimiter_is_pointed_to() -> None:
    words = "needs column 'title'; it has: sku;title. .*'sku;title' holds ';': .* --delimiter"
    with pytest.raises(ListingsError, match=words):
        ColumnMap.of(ColumnNames(text=("title",)), ["sku;title"], "a.csv")


def test_texts_may_pass_unchecked() -> None:
    found = ColumnMap(text=("title",)).listing(Row(0, "a.csv: row 1", {"title": ""}), checked=False)
    assert isinstance(found, Listing)
