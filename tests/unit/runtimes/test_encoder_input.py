# SPDX-License-Identifier: Apache-2.0
"""Texts into an encoder's tokens, and logits into answers: answers are always literally in the text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_encoder import tiny_tokenizer

from quorum.decision.spans import load_pairs, locate
from quorum.runtimes.encoder_folder import EncoderFile
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads.label import pair_of
from quorum.runtimes.heads.spans import words_of
from quorum.runtimes.heads.value import pieces_of
from quorum_contract.fields import one_line

WORDS = ["red", "jersey", "jerseys", "cap", "acme", "brand", "name", "blue"]
TAGS = ("O", "B-brand", "I-brand", "B-thing", "I-thing")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.lists(
    st.sampled_from([*WORDS, "Jerseys", "XXL", "12cm", "a-b", "Dress", "ﬁne", "İstanbul", "日本"]), max_size=9
).map(" ".join)


def described(head: Any, labels: tuple[str, ...] = (), **more: Any) -> EncoderFile:
    return EncoderFile(
        schema_version=1, head=head, attributes=("a",), labels=labels, **{"max_tokens": 24, **more}
    )


def tokens(inputs: EncoderInput, ids: Any) -> list[str]:
    return [inputs._tokenizer.id_to_token(int(token)) for token in ids]


def test_a_question_and_a_text_with_plural_endings_apart() -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("value", with_category=True))
    row = inputs.encode("Acme  Jerseys", "Cap", "Brand Name")
    assert tokens(inputs, row.ids) == (
        ["[CLS]", "brand", "name", ":", "cap", "[SEP]", "acme", "jersey", "##s", "[SEP]"]
    )
    assert [row.text[start:end] for _, start, end in row.places] == ["Acme", "Jersey", "s"]
    logits = np.zeros((10, 2))
    logits[7] = 9.0
    assert inputs.decode(row, logits).value == "Jersey"


def test_plural_endings() -> None:
    text = "Jerseys dress gas Shorts, BAGS women's 12s"
    assert [text[a:b] for a, b in pieces_of(text)] == (
        ["Jersey", "s", "dress", "gas", "Short", "s", ",", "BAG", "S", "women's", "12s"]
    )


@settings(max_examples=40)
@given(TEXTS, st.integers(0, 2**32 - 1))
def test_a_value_is_literally_in_the_text(text: str, seed: int) -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("value"))
    row = inputs.encode(text, "", "brand")
    logits = np.random.default_rng(seed).normal(0, 3, (len(row.ids) + 2, 2))
    answer = inputs.decode(row, logits)
    assert answer.value == "n/a" or (answer.value and answer.value in one_line(text))
    assert answer.score <= 0


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_the_best_value_is_that_of_a_search_over_all(count: int, seed: int) -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("value"))
    row = inputs.encode(" ".join("abcdefg"[:count]), "", "brand")
    logits = np.random.default_rng(seed).normal(0, 2, (len(row.ids), 2))
    scores = {"n/a": logits[0].sum()}
    for first, start, _ in row.places.tolist():
        for last, _, end in row.places.tolist():
            if first <= last:
                scores[row.text[start:end]] = logits[first, 0] + logits[last, 1]
    best = max(scores, key=lambda value: scores[value])
    total = math.log(sum(math.exp(score) for score in scores.values()))
    found = inputs.decode(row, logits)
    assert found.value == best
    assert found.score == pytest.approx(scores[best] - total)


def test_nothing_is_the_answer_where_the_first_token_says_so() -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("value"))
    row = inputs.encode("acme cap", "", "brand")
    logits = np.zeros((len(row.ids), 2))
    logits[0] = 5.0
    assert inputs.decode(row, logits).value == "n/a"
    empty = inputs.encode("", "", "brand")
    assert inputs.decode(empty, np.zeros((len(empty.ids), 2))).value == "n/a"


@settings(max_examples=40)
@given(TEXTS, st.integers(0, 2**32 - 1))
def test_spans_are_parts_of_the_text(text: str, seed: int) -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("spans", TAGS))
    row = inputs.encode(text)
    logits = np.random.default_rng(seed).normal(0, 3, (len(row.ids) + 1, len(TAGS)))
    answer = inputs.decode(row, logits)
    assert locate(text, load_pairs(answer.value)) is not None
    assert answer.score <= 0


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O O", []),
        ("B-brand I-brand O", [["acme red", "brand"]]),
        ("B-brand B-brand O", [["acme", "brand"], ["red", "brand"]]),
        ("B-brand I-thing I-thing", [["acme", "brand"], ["red jersey", "thing"]]),
        ("I-thing O I-thing", [["acme", "thing"], ["jersey", "thing"]]),
    ],
)
def test_tags_become_spans(tags: str, expected: list[list[str]]) -> None:
    inputs = EncoderInput(tiny_tokenizer(["acme", "jersey"]), described("spans", TAGS))
    row = inputs.encode("acme red  jersey")
    assert tokens(inputs, row.ids) == ["[CLS]", "acme", "r", "##e", "##d", "jersey", "[SEP]"]
    logits = np.zeros((len(row.ids), len(TAGS)))
    for token, tag in zip((1, 2, 5), tags.split(), strict=True):
        logits[token, TAGS.index(tag)] = 8.0
    answer = inputs.decode(row, logits)
    assert json.loads(answer.value) == expected
    assert answer.score == pytest.approx(3 * (8.0 - math.log(math.exp(8.0) + 4)))


def test_words_behind_the_longest_input_are_outside_of_spans() -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("spans", TAGS, max_tokens=8))
    row = inputs.encode("red " * 20)
    assert len(row.ids) == 8
    logits = np.zeros((8, len(TAGS)))
    logits[:, 1] = 5.0
    assert len(json.loads(inputs.decode(row, logits).value)) == 6


def test_fields_become_a_pair() -> None:
    fields = ("query", "title", "brand")
    assert pair_of(fields, "query: cap\nbrand: acme") == ("cap", "acme")
    assert pair_of(fields, "query: cap\ntitle: red  cap\nbrand: acme")[1] == "red  cap acme"
    assert pair_of(fields, "title: red") == ("", "red")
    assert pair_of(fields, "just a text") == ("just a text", None)
    assert pair_of(fields, "other: a\nquery: b") == ("other: a query: b", None)
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("label", ("yes", "no"), fields=fields))
    row = inputs.encode("query: cap\ntitle: red cap")
    assert tokens(inputs, row.ids) == ["[CLS]", "cap", "[SEP]", "red", "cap", "[SEP]"]
    answer = inputs.decode(row, np.array([0.0, 2.0]))
    assert answer.value == "no"
    assert answer.score == pytest.approx(-math.log(1 + math.exp(-2.0)))


def test_a_batch_is_padded_and_masked() -> None:
    inputs = EncoderInput(tiny_tokenizer(WORDS), described("spans", TAGS))
    ids, mask = inputs.pad([inputs.encode("red"), inputs.encode("red cap blue")])
    assert ids.dtype == mask.dtype == np.int64
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert ids[0, 3:].tolist() == [0, 0]


def test_punctuation_around_a_word_is_no_part_of_it() -> None:
    text = "(red) men's cap, 15\", ... x.y"
    words = [text[start:end] for start, end in words_of(text)]
    assert words == ["(", "red", ")", "men's", "cap", ",", "15", '",', "...", "x.y"]
