# SPDX-License-Identifier: Apache-2.0
"""Several values of one attribute, such as all colours; each of them is voted on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quorum.decision.spans import MAX_SPANS, SpansError, dump_values, load_values
from quorum.tasks.kinds.base import answer_text, sentence, single
from quorum.tasks.kinds.value import Value, allowed_words
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute


class Many(Value):
    """Kind ``value`` with ``many``: a list of values, empty or "n/a" where the text has none."""

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """A list of texts."""
        one = Value.schema(self, attribute)
        if "enum" in one:
            one["enum"] = list(attribute.values)
        return {"type": "array", "items": one, "maxItems": MAX_SPANS}

    def describe(self, attribute: Attribute) -> str:
        """The question, and that a list is wanted."""
        question = attribute.question or f"every {attribute.name} of the product"
        of = f" Each one of: {', '.join(attribute.values)}." if attribute.values else ""
        return f"{sentence(question)}{of} A JSON list, [] for none"

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """The list of values, sorted, each once; what is "n/a" in a list is left out."""
        if raw is None:
            return NOT_APPLICABLE
        found = raw if isinstance(raw, list) else _listed(raw)
        if len(found) > MAX_SPANS:
            return None
        texts = [single(one) for one in found]
        values = [None if one is None else attribute.normalise(one) for one in texts]
        if any(value is None for value in values):
            return None
        named = [value for value in values if value and value != NOT_APPLICABLE]
        return dump_values(named) if named else NOT_APPLICABLE

    def wanted(self, attribute: Attribute) -> str:
        """A list, and what it is of."""
        return f"is no list of values that it allows{allowed_words(attribute)}"

    def raw(self, value: str) -> object:
        """The list, empty for "n/a"."""
        return [] if value == NOT_APPLICABLE else load_values(value)

    def gold(self, attribute: Attribute, given: Sequence[object], text: str) -> list[str]:
        """All of them are one answer."""
        return [self.read(attribute, list(given), text) or answer_text(list(given))]


def _listed(raw: object) -> list[object]:
    """Several values of a text: recorded votes, and some LLMs, give the JSON as a text."""
    if isinstance(raw, str) and raw.lstrip().startswith("["):
        with suppress(SpansError):
            return list(load_values(raw))
    return [raw]
