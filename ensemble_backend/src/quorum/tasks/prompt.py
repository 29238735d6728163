# SPDX-License-Identifier: Apache-2.0
"""Build a member's prompt: instructions first, product last, so that engines can reuse the prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quorum.tasks.catalogue import Attribute, Catalogue
from quorum_contract import NOT_APPLICABLE

Style = Literal["instruct", "bare"]

_INSTRUCTIONS = (
    "Extract attributes of a product from its text. Answer with one JSON object that has exactly the keys "
    f'listed below, in that order, and string values. Use "{NOT_APPLICABLE}" when the text does not say.'
)


def build_prompt(
    catalogue: Catalogue, style: Style, text: str, category: str, attributes: Sequence[str]
) -> str:
    """Build the prompt for one product, without chat template.

    Args:
        catalogue: Gives questions and allowed values.
        style: ``"instruct"`` gives instructions, questions and allowed values, for general
            instruction-following LLMs; ``"bare"`` only names the attributes, for models fine-tuned on this.
        text: Product text; runs of white space become one space, here and in ``category``.
        category: May be empty.
        attributes: The keys of the answer, in this order.
    """
    return fill_prompt(style, instructions_for(catalogue, style, attributes), text, category)


def instructions_for(catalogue: Catalogue, style: Style, attributes: Sequence[str]) -> str:
    """The prompt's prefix, the same for all products with these attributes."""
    if style == "bare":
        return ", ".join(attributes)
    keys = "\n".join(f"- {_describe(catalogue.get(name))}" for name in attributes)
    return f"{_INSTRUCTIONS}\n\nKeys:\n{keys}\n"


def fill_prompt(style: Style, instructions: str, text: str, category: str) -> str:
    """The whole prompt: the instructions of :func:`instructions_for`, then the product."""
    product, category = _one_line(text), _one_line(category)
    if style == "bare":
        return f"{instructions}\n{category}\n{product}\n"
    return f"{instructions}\nCategory: {category or 'unknown'}\nProduct: {product}\nJSON:"


def _one_line(text: str) -> str:
    """Join the text's words by single spaces: a caller's text must not add lines to the prompt."""
    return " ".join(text.split())


def _describe(attribute: Attribute) -> str:
    question = attribute.question or f"the {attribute.name} of the product"
    if not attribute.is_closed:
        return f"{attribute.name}: {question}"
    return f"{attribute.name}: {question} One of: {', '.join(attribute.values)}, {NOT_APPLICABLE}"
