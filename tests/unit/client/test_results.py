# SPDX-License-Identifier: Apache-2.0
"""Answers of several spans or values, read from the one text that carries them."""

from __future__ import annotations

import pytest

from quorum_client import Answer


def answer(value: str | None) -> Answer:
    return Answer("x", value, 1.0, ())


def test_spans_are_pairs_in_their_order() -> None:
    first, second = answer('[["red","color"],["iphone 12","product"]]').spans
    assert (first.text, first.type) == ("red", "color")
    assert second == ("iphone 12", "product")


@pytest.mark.parametrize("value", [None, "n/a", "[]"])
def test_no_spans_are_none(value: str | None) -> None:
    assert answer(value).spans == ()


@pytest.mark.parametrize("value", ["red", '["red"]', '{"a":1}', '[["red"]]', '[["red",1]]', "[" * 9999])
def test_what_is_no_spans_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"x: .* has no spans; read it as `value`"):
        _ = answer(value).spans


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (None, ()),
        ("n/a", ()),
        ("red", ("red",)),
        ('["blue","red"]', ("blue", "red")),
        ("[1]", ("[1]",)),
        ('{"a":1}', ('{"a":1}',)),
    ],
)
def test_values_are_all_of_a_list_or_the_one(value: str | None, values: tuple[str, ...]) -> None:
    assert answer(value).values == values
