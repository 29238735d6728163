# SPDX-License-Identifier: Apache-2.0
"""Control tokens are removed from prompts, and nothing else is."""

from __future__ import annotations

import json

import pytest
from support.injections import LISTINGS, injections

from quorum.runtimes.control_tokens import ControlTokens
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import build_prompt

ADDED = ("<pad>", "[TOOL]", "▁<PRE>", "<｜begin▁of▁sentence｜>", "cotton", "t-shirt", "  ", "\n\n", '""', "№")
TEMPLATE = "{% if messages[0] < 3 %}{{ '[ASK]' + x['a'] }}{% endif %}<turn>{{ '<|bot|>' }}"
CONTROLS = ControlTokens(["</s>", "EOS", None, "!", "\n\n"], ADDED, TEMPLATE)
CATALOGUE = Catalogue.of([Attribute("color", values=("red", "blue")), Attribute("size", "Which <size>?")])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("red <pad> shoe", "red shoe"),
        ("red<pad>shoe", "red shoe"),
        ("<pad>red </s></s>  <pad>", "red"),
        ("a\n[ASK] b <turn>\nc<|bot|>", "a\nb\nc"),
        ("red <PRE>x EOS [TOOL]y", "red x y"),
        ("a<｜begin of▁sentence｜>b", "a b"),
        ("a <|im_end|>[INST] b", "a b"),
        ("<pa<pad>d>", "<pa d>"),
        ("a ＜pad＞ b", "a b"),
    ],
)
def test_a_run_of_control_tokens_becomes_a_space(text: str, left: str) -> None:
    assert CONTROLS.remove(text) == left


@pytest.mark.parametrize(
    "text",
    [
        'cotton t-shirt, № 5!  Wow\n\n"" ½ größe ＜42＞',
        "size < 42 > 40 [S] {L} <b>new</b> | a_b ▁",
        "messages[0] <size> [x] <|> pad endoftext",
    ],
)
def test_other_text_stays_bit_for_bit(text: str) -> None:
    assert CONTROLS.remove(text) == text


def test_prompts_of_harmless_listings_stay_bit_for_bit() -> None:
    rows = [json.loads(line) for line in LISTINGS.read_text("utf-8").splitlines()]
    assert len(rows) > 100
    for style in ("bare", "instruct"):
        for row in rows:
            prompt = build_prompt(CATALOGUE, style, row["title"], row["category"], ("color", "size"))
            assert CONTROLS.remove(prompt) == prompt


@pytest.mark.parametrize("style", ["bare", "instruct"])
def test_prompts_are_those_of_the_texts_without_control_tokens(style: str) -> None:
    for one in injections():
        prompt, twin = (
            build_prompt(CATALOGUE, style, text, one.category, ("color", "size"))  # type: ignore[arg-type]
            for text in (one.text, one.twin)
        )
        assert prompt != twin
        assert CONTROLS.remove(prompt) == twin


def test_nested_ones_leave_none() -> None:
    nested = "<｜begin" * 400 + "<pad>" + "of▁sentence｜>" * 400
    assert CONTROLS.remove(nested).count("<") == 0
    assert CONTROLS.remove(CONTROLS.remove(nested)) == CONTROLS.remove(nested)
