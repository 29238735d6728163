# SPDX-License-Identifier: Apache-2.0
"""A text that is written anew: a description, a summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from quorum.tasks.kinds.base import no_text, sentence, single
from quorum.tasks.normalise import is_not_given, visible
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute

MOST_TEXT_CHARS = 8000
"""Largest limit of an answer: JSON may write a character as two, and 16 384 are read."""


class Text:
    """Kind ``text``: up to ``max_chars`` characters, in one line."""

    allows_na: ClassVar = True
    has_listed_answers: ClassVar = False
    is_shared: ClassVar = False
    has_pairs: ClassVar = False
    refusal: ClassVar = "is no text that the attribute allows"

    def problem(self, attribute: Attribute) -> str:
        """A text has a limit and no list."""
        if attribute.values or attribute.synonyms:
            return "kind 'text' has no values and no synonyms; leave them out"
        if not 1 <= attribute.max_chars <= MOST_TEXT_CHARS:
            return f"max_chars is {attribute.max_chars}; give 1 to {MOST_TEXT_CHARS}"
        return ""

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """A text with a limit."""
        return {"type": "string", "minLength": 1, "maxLength": attribute.max_chars}

    def describe(self, attribute: Attribute) -> str:
        """The question, and the longest answer."""
        question = attribute.question or f"a {attribute.name} of the product"
        return f"{sentence(question)} At most {attribute.max_chars} characters"

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """The text in one line, without control characters; one that is too long is not allowed."""
        found = single(raw)
        if found is None or len(found) > 2 * attribute.max_chars:
            return NOT_APPLICABLE if raw is None and attribute.allow_na else None
        written = one_line(visible(found))
        if is_not_given(written):
            return NOT_APPLICABLE if attribute.allow_na else None
        return written if len(written) <= attribute.max_chars else None

    def wanted(self, attribute: Attribute) -> str:
        """The longest answer."""
        return f"is no text of at most {attribute.max_chars} characters"

    def raw(self, value: str) -> object:
        """The text itself."""
        return value

    def gold(self, attribute: Attribute, given: Sequence[object], text: str) -> list[str]:
        """Each is a text; these are references, not spellings of one answer."""
        return [self.read(attribute, value, text) or str(value) for value in given]

    def gold_problem(self, attribute: Attribute, given: Sequence[object], text: str) -> str:
        """Each must be a text that is short enough."""
        for value in given:
            if problem := no_text(attribute, value):
                return problem
            if len(str(value)) > attribute.max_chars:
                return f"the answer has {len(str(value))} characters, max_chars is {attribute.max_chars}"
        return ""
