# SPDX-License-Identifier: Apache-2.0
"""Read spans that people write: JSON [[words, type], ...] with words of the product's text."""

from __future__ import annotations

from quorum.decision.spans import SpansError, dump_spans, laid_out, load_pairs, locate, overlap_of
from quorum.review.choose import LabelError
from quorum.review.kinds.base import SEPARATOR, SheetAnswer, listed, meant, split_alternatives, split_lists
from quorum.tasks.attribute import Attribute
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

_SHOWN_CHARS = 60


def _split(field: str) -> list[str]:
    return split_lists(field) if field.lstrip().startswith("[") else split_alternatives(field)


def _spelled(attribute: Attribute, given: str, text: str) -> str:
    if given == NOT_APPLICABLE:
        given = "[]"
    try:
        pairs = load_pairs(given)
    except SpansError as error:
        raise LabelError(f'{error}; write [["words of the title", "type"], ...], or [] for none') from error
    typed = []
    for words, kind in pairs:
        known = attribute.normalise(kind)
        if known is None or known == NOT_APPLICABLE:
            advice = meant(kind, attribute.values)
            raise LabelError(f"{kind!r} is no type of {attribute.name}: {listed(attribute.values)}{advice}")
        if locate(text, [(words, known)]) is None:
            shown = one_line(text)
            more = "..." if len(shown) > _SHOWN_CHARS else ""
            raise LabelError(
                f"{words!r} is not in {shown[:_SHOWN_CHARS] + more!r}; copy the words from the title"
            )
        typed.append((words, known))
    spans = locate(text, typed)
    if spans is None:
        raise LabelError(f"{len(pairs)} spans are too many for one answer; leave some out")
    if clash := overlap_of(laid_out(text, spans)):
        first, second = (one_line(text)[span.start : span.end] for span in clash)
        raise LabelError(f"{first!r} and {second!r} overlap; keep one of the two")
    return dump_spans(text, spans)


def _allowed(attribute: Attribute) -> str:
    return f'[["words of the title", "type"], ...]; types: {SEPARATOR.join(attribute.values)}'


SPANS = SheetAnswer(_split, _spelled, _allowed)
