# SPDX-License-Identifier: Apache-2.0
"""Build a member's prompt: instructions first, product last, so that engines can reuse the prefix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Literal

from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import quoted
from quorum.tasks.kinds import answer_text, kind_of
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import join_fields, one_line, split_fields

Style = Literal["instruct", "bare"]

_TASK = "Extract attributes of a product from its text."
_FORM = "Answer with one JSON object that has exactly the keys listed below, in that order"
_USUAL_FORM = f'{_FORM}, and string values. Use "{NOT_APPLICABLE}" when the text does not say.'
_OTHER_FORM = f"{_FORM}, and the kind of value that each asks for."
_PROBE = "Text of a product"


def build_prompt(
    catalogue: Catalogue, style: Style, text: str, category: str, attributes: Sequence[str]
) -> str:
    """Build the prompt for one product, without chat template.

    Args:
        catalogue: Gives questions, allowed values, instructions and examples.
        style: ``"instruct"`` gives instructions, questions, allowed values and examples, for general
            instruction-following LLMs; ``"bare"`` only names the attributes, for models fine-tuned on this.
        text: Product text; runs of white space become one space, here and in ``category``. A text of named
            fields keeps a line for each.
        category: May be empty.
        attributes: The keys of the answer, in this order.
    """
    instructions, fields = instructions_for(catalogue, style, attributes), fields_of(catalogue, attributes)
    return fill_prompt(style, instructions, text, category, fields)


def fields_of(catalogue: Catalogue, attributes: Sequence[str]) -> frozenset[str]:
    """The named fields that a text for these attributes may be made of."""
    return frozenset(name for attribute in attributes for name in catalogue.get(attribute).fields)


def prompt_hash(catalogue: Catalogue, style: Style, attributes: Sequence[str]) -> str:
    """``sha256:...`` of the prompt for these attributes: a model tuned on another prompt will not answer."""
    fields = dict.fromkeys(sorted(fields_of(catalogue, attributes)), _PROBE)
    texts = [_PROBE, *([join_fields(fields)] if fields else [])]
    prompts = [build_prompt(catalogue, style, text, "category", attributes) for text in texts]
    return "sha256:" + hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def instructions_for(catalogue: Catalogue, style: Style, attributes: Sequence[str]) -> str:
    """The prompt's prefix, the same for all products with these attributes."""
    if style == "bare":
        return ", ".join(_key(catalogue, name) for name in attributes)
    asked = [catalogue.get(name) for name in attributes]
    keys = "\n".join(f"- {_key(catalogue, a.name)}: {kind_of(a).describe(a)}" for a in asked)
    return f"{_task(asked)} {_form(asked)}\n\nKeys:\n{keys}\n{_examples(asked)}"


def fill_prompt(
    style: Style, instructions: str, text: str, category: str, fields: Collection[str] = ()
) -> str:
    """The whole prompt: the instructions of :func:`instructions_for`, then the product.

    A text of the named ``fields`` alone gets a line for each; any other text is one line.
    """
    category = one_line(category)
    if style == "bare":
        lines = [f"{name}: {value}" for name, value in _known(text, fields).items()]
        return "\n".join([instructions, category, *(lines or [one_line(text)])]) + "\n"
    return f"{instructions}\nCategory: {category or 'unknown'}\n{_product(text, fields)}\nJSON:"


def _key(catalogue: Catalogue, name: str) -> str:
    """A key of the answer; a caller's own is quoted data, and adds no line or instruction."""
    return quoted(name) if catalogue.is_by_default(name) else name


def _known(text: str, fields: Collection[str]) -> dict[str, str]:
    """The fields of a text; empty where it has others: a caller's text must not add lines of its own."""
    found = split_fields(text) if fields else {}
    return found if found.keys() <= set(fields) else {}


def _product(text: str, fields: Collection[str]) -> str:
    found = _known(text, fields)
    if not found:
        return f"Product: {one_line(text)}"
    return "\n".join(f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in found.items())


def _task(asked: Sequence[Attribute]) -> str:
    own = dict.fromkeys(a.instructions or _TASK for a in asked)
    return " ".join(one_line(instructions) for instructions in own)


def _form(asked: Sequence[Attribute]) -> str:
    plain = all(a.answer_kind == "value" and a.allow_na for a in asked)
    return _USUAL_FORM if plain else _OTHER_FORM


def _examples(asked: Sequence[Attribute]) -> str:
    """Worked examples, those with one text as one: those with all keys, or if none has, those with some."""
    answers: dict[str, dict[str, object]] = {}
    for attribute in asked:
        for example in attribute.examples:
            answers.setdefault(example.text, {})[attribute.name] = example.answer
    whole = {text: answer for text, answer in answers.items() if len(answer) == len(asked)}
    fields = {name for attribute in asked for name in attribute.fields}
    shown = [
        f"{_product(text, fields)}\nJSON: {answer_text(answer)}"
        for text, answer in (whole or answers).items()
    ]
    title = "Examples" if whole else "Examples, each with some of the keys"
    return f"\n{title}:\n" + "\n\n".join(shown) + "\n" if shown else ""
