# SPDX-License-Identifier: Apache-2.0
"""A text that is written anew: a description, a summary."""

from __future__ import annotations

from typing import Any

from quorum.tasks.attribute import Attribute
from quorum.tasks.kinds.base import sentence, single
from quorum.tasks.normalise import is_not_given, visible
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line


class Text:
    """Kind ``text``: up to ``max_chars`` characters, in one line."""

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
