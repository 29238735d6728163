# SPDX-License-Identifier: Apache-2.0
"""Spans of a text: where words are found, and their one spelling."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.decision.spans import (
    MAX_SPANS,
    SpansError,
    TextSpan,
    dump_spans,
    dump_values,
    laid_out,
    load_pairs,
    load_values,
    locate,
)

TYPES = ("color", "product")
WORDS = st.sampled_from(
    ["red", "Red", "red shoe", "Shoe red", "shoe", "shoes", "redshoe", "é", "İ", "a", "-"]
)


def places(text: str, *pairs: tuple[str, str]) -> list[tuple[int, int]] | None:
    spans = locate(text, pairs)
    return None if spans is None else [(span.start, span.end) for span in spans]


def test_words_are_found_in_order_at_the_borders_of_words() -> None:
    text = "women  shoes for\tmen"
    assert places(text, ("men", "who"), ("shoes", "what")) == [(6, 11), (16, 19)]
    assert places(text, ("wom", "who")) == [(0, 3)], "inside a word, where there is no other place"
    assert places("red shoe red lace", ("shoe", "x"), ("red", "x")) == [(0, 3), (4, 8)], "the first"
    assert places("red shoe red lace", ("red", "x"), ("red", "x")) == [(0, 3), (9, 12)]


def test_case_may_differ_and_the_text_keeps_its_own() -> None:
    spans = locate("Red SHOE", [("red", "color"), ("shoe", "product")])
    assert spans is not None
    assert dump_spans("Red SHOE", spans) == '[["Red","color"],["SHOE","product"]]'
    assert places("red RED", ("RED", "color")) == [(0, 3)]
    assert places("İstanbul red", ("RED", "color")) == [(9, 12)], "its lower case is longer"
    assert places("ΟΔΟΣΑ", ("ΟΔΟΣ", "x")) == [(0, 4)], "an s has another lower case at the end of a word"


def test_a_pair_repeated_too_often_counts_once() -> None:
    assert places("red shoe", *[("red", "color")] * 5) == [(0, 3)]


def test_what_the_text_does_not_have_is_refused() -> None:
    assert locate("red shoe", [("blue", "color")]) is None
    assert locate("red shoe", [("", "color")]) is None
    assert locate("red " * 99, [("red", "color")] * (MAX_SPANS + 1)) is None


def test_other_pairs_do_not_move_a_span() -> None:
    text = "red hat red"
    alone = places(text, ("red", "color"))
    assert alone == [(0, 3)]
    for other in ("hat", "red hat", "hat red"):
        for pairs in ([(other, "x"), ("red", "color")], [("red", "color"), (other, "x")]):
            assert TextSpan(0, 3, "color") in (locate(text, pairs) or [])


def test_a_span_inside_a_longer_one_is_written_where_its_words_have_room() -> None:
    for text, pairs in (
        ("Dark RED case for red", [["Dark RED", "x"], ["case", "y"], ["red", "x"]]),
        ("red hat red red", [["red hat", "x"], ["red", "z"], ["red", "a"]]),
        ("red hat", [["red", "x"], ["red hat", "y"]]),
    ):
        spans = locate(text, [(words, kind) for words, kind in pairs])
        assert spans is not None
        assert json.loads(dump_spans(text, spans)) == pairs
        starts = [span.start for span in laid_out(text, spans)]
        assert len(set(starts)) == len(starts) or text == "red hat"
        assert locate(text, load_pairs(dump_spans(text, spans))) == spans


def test_words_named_again_lie_at_their_next_place() -> None:
    assert places("redshoe red Red", *[("red", "x")] * 2) == [(8, 11), (12, 15)], "borders of words first"
    assert places("redshoe red Red", *[("red", "x")] * 3) == [(0, 3), (8, 11), (12, 15)]
    assert places("banana", ("ana", "x"), ("ana", "x")) == [(1, 4)], "no place lies over another"
    assert places("ba a a", ("a a", "x")) == [(3, 6)]
    assert locate("redshoe red", [("red", "a"), ("RED", "b")]) == [TextSpan(0, 3, "a"), TextSpan(8, 11, "b")]


@given(
    st.lists(WORDS, min_size=1, max_size=8), st.lists(st.tuples(WORDS, st.sampled_from(TYPES)), max_size=6)
)
def test_the_spelling_of_located_spans_locates_spans_of_the_same_spelling(
    words: list[str], pairs: list[tuple[str, str]]
) -> None:
    text = " ".join(words)
    spans = locate(text, pairs)
    if spans is None:
        return
    assert all(text[s.start : s.end].lower() in [words.lower() for words, _ in pairs] for s in spans)
    written = dump_spans(text, spans)
    again = locate(text, load_pairs(written))
    assert again is not None
    assert again == spans
    assert dump_spans(text, again) == written


@pytest.mark.parametrize("value", ["", "red", '{"a": 1}', '["red"]', '[["red"]]', '[["red", 1]]', "[" * 9999])
def test_other_json_is_no_list_of_pairs(value: str) -> None:
    with pytest.raises(SpansError):
        load_pairs(value)


def test_values_are_sorted_and_each_once() -> None:
    assert dump_values(["red", "blue", "red"]) == '["blue","red"]'
    assert load_values('["blue","red"]') == ["blue", "red"]
    with pytest.raises(SpansError, match="no JSON list of texts"):
        load_values('[["red","color"]]')


def test_many_places_take_no_long_time() -> None:
    assert locate("a " * 16_000, [("a", "x")] * MAX_SPANS) is not None
    text = "aab" * 10_000
    begun = time.thread_time()
    assert locate(text, [(text[at : at + 3 + at % 60], "x") for at in range(MAX_SPANS)]) is not None
    assert time.thread_time() - begun < 0.5, "about 0.01 s"
    assert TextSpan(0, 1, "x") in (locate("a" * 32_000, [("a", "x")]) or [])
