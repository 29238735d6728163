# SPDX-License-Identifier: Apache-2.0
"""Spans of the text, each with a type: named entities, also the segments of a query."""

from __future__ import annotations

from typing import Any

from quorum.decision.spans import MAX_SPANS, SpansError, dump_spans, load_pairs, locate, pairs_of
from quorum.tasks.attribute import Attribute
from quorum.tasks.kinds.base import sentence
from quorum_contract import NOT_APPLICABLE

_MAX_SPAN_CHARS = 200


class Spans:
    """Kind ``spans``: a list of [text, type]; empty where the text has none."""

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """A list of pairs."""
        words = {"type": "string", "minLength": 1, "maxLength": _MAX_SPAN_CHARS}
        pair = {
            "type": "array",
            "prefixItems": [words, {"type": "string", "enum": list(attribute.values)}],
            "minItems": 2,
            "maxItems": 2,
        }
        return {"type": "array", "items": pair, "maxItems": MAX_SPANS}

    def describe(self, attribute: Attribute) -> str:
        """The question, the types, and the form."""
        question = attribute.question or f"every {attribute.name} in the text"
        types = ", ".join(attribute.values)
        return (
            f"{sentence(question)} A JSON list of [words as in the text, type], [] for none. Types: {types}"
        )

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """The pairs as the text spells them, in order of appearance; None if one is not in the text."""
        if raw is None or raw == NOT_APPLICABLE:
            raw = []
        try:
            # Recorded votes, and some LLMs, give the JSON as a text.
            pairs = load_pairs(raw) if isinstance(raw, str) else pairs_of(raw)
        except SpansError:
            return None
        known = [(words, attribute.normalise(kind)) for words, kind in pairs]
        typed = [(words, kind) for words, kind in known if kind is not None and kind != NOT_APPLICABLE]
        spans = locate(text, typed) if len(typed) == len(pairs) else None
        return None if spans is None else dump_spans(text, spans)
