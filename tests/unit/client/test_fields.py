# SPDX-License-Identifier: Apache-2.0
"""Named fields are joined to one TEXT and split again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum_contract.errors import InvalidRequest
from quorum_contract.fields import join_fields, one_line, split_fields

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_what_is_joined_is_split_again(fields: dict[str, str]) -> None:
    kept = {name: one_line(value) for name, value in fields.items() if one_line(value)}
    if not kept:
        with pytest.raises(InvalidRequest, match="no field has text"):
            join_fields(fields)
        return
    text = join_fields(fields)
    assert split_fields(text) == kept
    assert list(split_fields(text)) == list(kept)
    assert join_fields(split_fields(text)) == text


@given(st.text())
def test_any_text_can_be_split(text: str) -> None:
    fields = split_fields(text)
    assert all(name and "\n" not in value for name, value in fields.items())


@pytest.mark.parametrize(
    "text", ["", "red shoe", "query: a\nred", "query: a\nquery: b", "Query: a", "query:a"]
)
def test_other_texts_have_no_fields(text: str) -> None:
    assert split_fields(text) == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Query X": "a"}, "field 'Query X'; name fields by"),
        ({1: "a"}, "field 1; name fields by"),
        ({"query": 1}, "field 'query' is a int"),
        ({"query": " "}, "no field has text; give at least one of query"),
        ({}, "give at least one of some"),
    ],
)
def test_fields_that_make_no_text_are_refused(fields: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        join_fields(fields)
