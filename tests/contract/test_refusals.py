# SPDX-License-Identifier: Apache-2.0
"""One set of checks holds a request to its limits, on either side of the wire; refusals carry their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import quorum_client
import quorum_contract
from quorum_contract import checks
from quorum_contract.errors import InvalidRequest, Overloaded, QuorumError, take_code, with_code
from quorum_contract.foreign import PHRASES, Meaning, meaning_of


def refusal(check: Callable[..., Any], *args: Any) -> str | None:
    try:
        check(*args)
    except InvalidRequest as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (["brand"], None),
        (["größe", "n/a"], None),
        ([f"a{i}" for i in range(64)], None),
        (["é" * 64], None),
        (["shoe size"], None),
        ([], "ATTRIBUTES: empty"),
        ([f"a{i}" for i in range(65)], "65 names, the limit is 64"),
        (["a", " "], "ATTRIBUTES[1]: empty"),
        (["\u200b\u2060"], "ATTRIBUTES[0]: empty"),
        (["a\u200db"], None),
        (["a", "b", "a"], "ATTRIBUTES[2]: 'a' a second time"),
        (["color", "Color"], "ATTRIBUTES[1]: 'Color' a second time, without regard to case"),
        (["STRASSE", "straße"], "a second time, without regard to case"),
        (["a\x7f"], "ATTRIBUTES[0]: 'a\\x7f' holds control characters"),
        (["a", "a\x00"], "ATTRIBUTES[1]: 'a\\x00' holds control characters"),
        (["color "], "ATTRIBUTES[0]: 'color ' has white space around it"),
        (["\xa0color"], "has white space around it"),
        (["\u2003color"], "has white space around it"),
        (["a", "é" * 65], "ATTRIBUTES[1]: 130 bytes of UTF-8, the limit is 128"),
    ],
)
def test_client_and_gate_refuse_the_same_attributes_in_the_same_words(
    attributes: list[str], words: str | None
) -> None:
    sent = refusal(checks.encode_attributes, attributes)
    received = refusal(checks.decode_attributes, [name.encode() for name in attributes])
    assert sent == received
    assert sent is words is None or (words is not None and words in str(sent))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a shoe", None),
        ("é" * 16_384, None),
        ("é" * 16_385, "TEXT: 32770 bytes of UTF-8, the limit is 32768; shorten it"),
        ("", "TEXT: empty"),
        (" \n\t\u00a0", "TEXT: empty"),
        ("\ufeff \u3164\u200b", "TEXT: empty"),
    ],
)
def test_client_and_gate_refuse_the_same_texts_in_the_same_words(text: str, words: str | None) -> None:
    sent = refusal(checks.encode_text, text)
    assert sent == refusal(checks.decode_text, text.encode())
    assert sent is words is None or (words is not None and words in str(sent))


@pytest.mark.parametrize(("category", "fits"), [("", True), ("c" * 256, True), ("c" * 257, False)])
def test_client_and_gate_refuse_the_same_categories(category: str, fits: bool) -> None:
    sent = refusal(checks.encode_category, category)
    assert sent == refusal(checks.decode_category, category.encode())
    assert (sent is None) is fits


@pytest.mark.parametrize(
    ("raw", "words"), [(b"a\xff", "TEXT: not UTF-8 at byte 1"), (3, "TEXT: a int; send BYTES elements")]
)
def test_what_no_client_of_ours_sends_is_refused_by_the_gate(raw: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        checks.decode_text(raw)


def test_what_is_encoded_decodes_to_the_same() -> None:
    names = ["größe", "brand", "🧦"]
    assert checks.decode_attributes(checks.encode_attributes(names)) == tuple(names)
    assert checks.decode_text(checks.encode_text("Schuh №1")) == "Schuh №1"
    assert checks.decode_category(checks.encode_category("")) == ""


def test_client_and_contract_have_the_same_classes() -> None:
    for name in ("InvalidRequest", "Overloaded", "QuorumError", "RequestError", "Status", "Unavailable"):
        assert getattr(quorum_client, name) is getattr(quorum_contract, name)


@pytest.mark.parametrize("before", ["", "in ensemble 'quorum', ", "[request id: [quorum:NO]] "])
@pytest.mark.parametrize("words", ["", "full", "quotes [quorum:NO]", "ends with\nlines"])
def test_a_code_comes_back_from_whatever_stands_before_it(before: str, words: str) -> None:
    text, code = take_code(before + with_code(Overloaded(words), 500))
    assert (text.rstrip(), code) == ((before + words).rstrip(), "OVERLOADED")


@pytest.mark.parametrize(
    "message", ["", "full", "[quorum:OVERLOADED] full", "[quorum:overloaded]", "[quorum:]", "'[quorum:NO]'"]
)
def test_what_a_message_quotes_is_no_code(message: str) -> None:
    assert take_code(message) == (message, None)


def test_a_long_message_loses_words_and_keeps_its_code() -> None:
    message = with_code(QuorumError("x" * 2000), 500)
    assert len(message) == 500
    assert take_code(message) == ("x" * (500 - len(" [quorum:QUORUM_ERROR]")), "QUORUM_ERROR")


@pytest.mark.parametrize(
    "hostile",
    [" [quorum:NO]" * 10_000, "[quorum:" * 12_000, "[quorum:" + "A" * 100_000, "[quorum:A]" + " \n" * 50_000],
)
def test_a_hostile_message_takes_no_time_beyond_its_length(hostile: str) -> None:
    """An expression that goes back over what it has read would take hours for these."""
    assert take_code(hostile + "!") == (hostile + "!", None)
    assert take_code(with_code(Overloaded(hostile), 200_000)).code == "OVERLOADED"


def test_foreign_words_are_each_found_and_name_their_author() -> None:
    for phrase in PHRASES:
        assert meaning_of(f"before {phrase.words} after") is phrase.meaning
        assert phrase.author
    assert {phrase.meaning for phrase in PHRASES} == set(Meaning)
    assert meaning_of("Socket closed") is None
