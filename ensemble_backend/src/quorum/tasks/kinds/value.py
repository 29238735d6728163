# SPDX-License-Identifier: Apache-2.0
"""A value that the text states, or "n/a": open, or one of a list."""

from __future__ import annotations

from typing import Any

from quorum.tasks.attribute import MAX_OPEN_VALUE_CHARS, Attribute
from quorum.tasks.kinds.base import sentence, single
from quorum_contract import NOT_APPLICABLE


class Value:
    """Kind ``value``."""

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
