# SPDX-License-Identifier: Apache-2.0
"""A value that the text states, or "n/a": open, or one of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from quorum.tasks.kinds.base import no_text, sentence, single, without_limit
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute

MAX_OPEN_VALUE_CHARS = 64
"""Longest value of an open attribute that guided decoding writes."""
_SHOWN = 8


class Value:
    """Kind ``value``."""

    name: ClassVar = "value"
    """Of one answer, for people."""
    allows_na: ClassVar = True
    has_listed_answers: ClassVar = True
    is_shared: ClassVar = True
    has_pairs: ClassVar = False
    refusal: ClassVar = "is no value that the attribute allows"

    def problem(self, attribute: Attribute) -> str:
        """Values may be listed or not."""
        return without_limit(attribute)

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """A text: of the list or "n/a", or any one that is short."""
        if attribute.is_closed:
            return {
                "type": "string",
                "enum": [*attribute.values, *[NOT_APPLICABLE] * bool(attribute.allow_na)],
            }
        return {"type": "string", "minLength": 1, "maxLength": MAX_OPEN_VALUE_CHARS}

    def describe(self, attribute: Attribute) -> str:
        """The question, and the list if there is one."""
        question = attribute.question or f"the {attribute.name} of the product"
        if not attribute.is_closed:
            return question
        allowed = [*attribute.values, *[NOT_APPLICABLE] * bool(attribute.allow_na)]
        return f"{sentence(question)} One of: {', '.join(allowed)}"

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """The value by the catalogue; null is "n/a"."""
        if raw is None:
            return NOT_APPLICABLE if attribute.allow_na else None
        found = single(raw)
        return None if found is None else attribute.normalise(found)

    def wanted(self, attribute: Attribute) -> str:
        """The list and "n/a", as far as they are allowed."""
        return f"is no {self.name} that it allows{allowed_words(attribute)}"

    def raw(self, value: str) -> object:
        """The value itself."""
        return value

    def gold(self, attribute: Attribute, given: Sequence[object], text: str) -> list[str]:
        """Each by the catalogue."""
        values = map(str, given)
        return [attribute.normalise(value) or value for value in values]

    def gold_problem(self, attribute: Attribute, given: Sequence[object], text: str) -> str:
        """Each must be a text that the catalogue allows."""
        for value in given:
            if problem := no_text(attribute, value):
                return problem
            if attribute.normalise(str(value)) is not None:
                continue
            if not attribute.values:
                return f"{value!r:.80} is no {self.name} that the attribute allows"
            more = ", ..." if len(attribute.values) > _SHOWN else ""
            return (
                f"unknown {self.name} {value!r:.80}; allowed are {', '.join(attribute.values[:_SHOWN])}{more}"
            )
        return ""


def allowed_words(attribute: Attribute) -> str:
    """What an attribute allows, as the end of a sentence; "" where that is anything."""
    allowed = [*attribute.values, *[NOT_APPLICABLE] * bool(attribute.allow_na)]
    return f"; it allows {', '.join(allowed)}" if allowed else ""
