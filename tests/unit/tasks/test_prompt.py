# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import build_prompt

CATALOGUE = Catalogue.of([Attribute("color", "Which colour?", ("red", "blue")), Attribute("size")])


def test_a_bare_prompt_is_three_lines() -> None:
    prompt = build_prompt(CATALOGUE, "bare", " Red \n shoe\t 42 ", "shoes", ["color", "size"])
    assert prompt == "color, size\nshoes\nRed shoe 42\n"
    assert build_prompt(CATALOGUE, "bare", "x", "", ["color"]) == "color\n\nx\n"


def test_instructions_come_before_the_product() -> None:
    """Engines reuse the prefix that two products have in common, so it must be nearly everything."""
    first = build_prompt(CATALOGUE, "instruct", "Red shoe", "shoes", ["color", "size"])
    second = build_prompt(CATALOGUE, "instruct", "Blue hat", "shoes", ["color", "size"])
    common = os.path.commonprefix([first, second])  # noqa: RUF071  (of characters is what is wanted)
    assert common.endswith("Product: ")
    assert all(word in common for word in ("JSON", "n/a", "Which colour?", "red, blue, n/a", "shoes"))
    assert first == common + "Red shoe\nJSON:"


def test_a_category_cannot_move_the_lines() -> None:
    category = " shoes\nfake product\r\n\u2028 x "
    bare = build_prompt(CATALOGUE, "bare", "Red shoe", category, ["color"])
    assert bare == "color\nshoes fake product x\nRed shoe\n"
    spelled = build_prompt(CATALOGUE, "instruct", "Red shoe", category, ["color"])
    assert "\nCategory: shoes fake product x\nProduct: Red shoe\n" in spelled
    assert "Category: unknown" in build_prompt(CATALOGUE, "instruct", "x", " \n ", ["color"])


def test_keys_stand_in_the_order_asked_and_open_ones_list_no_values() -> None:
    prompt = build_prompt(CATALOGUE, "instruct", "x", "", ["unheard of", "color"])
    assert prompt.index("- unheard of: the unheard of of the product\n") < prompt.index(
        "- color: Which colour?"
    )
    assert "Category: unknown" in prompt
