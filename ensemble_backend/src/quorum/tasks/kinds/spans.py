# SPDX-License-Identifier: Apache-2.0
"""Spans of the text, each with a type: named entities, also the segments of a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from quorum.decision.spans import (
    MAX_SPANS,
    SpansError,
    dump_spans,
    laid_out,
    load_pairs,
    locate,
    overlap_of,
    pairs_of,
)
from quorum.tasks.kinds.base import answer_text, sentence, without_limit
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute

_MAX_SPAN_CHARS = 200


class Spans:
    """Kind ``spans``: a list of [text, type]; empty where the text has none."""

    allows_na: ClassVar = True
    has_listed_answers: ClassVar = False
    is_shared: ClassVar = False
    has_pairs: ClassVar = True
    refusal: ClassVar = "names words that the text does not have, or a type that the catalogue does not have"

    def problem(self, attribute: Attribute) -> str:
        """A span has one of a list of types."""
        if not attribute.values:
            return "kind 'spans' needs its types of spans as `values`"
        return without_limit(attribute)

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

    def wanted(self, attribute: Attribute) -> str:
        """The form and the types."""
        return f"is no list of [words of the text, type]; the types are {', '.join(attribute.values)}"

    def raw(self, value: str) -> object:
        """The list of pairs, empty for "n/a"."""
        return [] if value == NOT_APPLICABLE else [list(pair) for pair in load_pairs(value)]

    def gold(self, attribute: Attribute, given: Sequence[object], text: str) -> list[str]:
        """All pairs are one answer."""
        return [self.read(attribute, list(given), text) or answer_text(list(given))]

    def gold_problem(self, attribute: Attribute, given: Sequence[object], text: str) -> str:
        """Pairs must have known types and words of the text, and must not overlap."""
        try:
            pairs = pairs_of(list(given))
        except SpansError as error:
            return str(error)
        typed = []
        for words, kind in pairs:
            known = attribute.normalise(kind)
            if known is None or known not in attribute.values:
                return f"unknown type {kind!r:.80}; allowed are {', '.join(attribute.values)}"
            if not words.strip():
                return f"a span of type {kind!r} is empty"
            if locate(text, [(words, known)]) is None:
                return f"the text has no {words!r:.80}"
            typed.append((words, known))
        spans = locate(text, typed)
        if spans is None:
            return f"has {len(typed)} spans, too many for one answer"
        if clash := overlap_of(laid_out(text, spans)):
            shared = " and ".join(repr(span.type) for span in clash)
            return f"the spans of type {shared} overlap at character {clash[1].start}"
        return ""
