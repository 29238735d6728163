# SPDX-License-Identifier: Apache-2.0
"""Read the gold that people write, by the kind of answer, and spell it as votes are spelled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise

from quorum.decision.answer_kinds import AnswerKind
from quorum.decision.spans import (
    SpansError,
    TextSpan,
    dump_spans,
    dump_values,
    laid_out,
    load_pairs,
    load_values,
    locate,
)
from quorum.review.choose import LabelError
from quorum.tasks.attribute import MAX_VALUE_CHARS, Attribute
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

SEPARATOR = " | "
_BETWEEN_LISTS = re.compile(r"(?<=\])\s*\|\s*(?=\[)")
_NEAR, _NEAR_RATIO = 3, 0.5
"""The most values that are suggested for one that is not in the set, and how alike they are at least."""
_SHOWN = 12
_SHOWN_CHARS = 60


def split_gold(field: str, kind: AnswerKind) -> list[str]:
    """The acceptable answers in what a person wrote, best first.

    They are separated by " | ". A written text is one answer, whatever it holds; so are several values, which
    " | " separates too. Between JSON lists of spans it may stand only where one ends and the next begins.
    """
    if kind in ("text", "values"):
        answers = [field]
    else:
        answers = _BETWEEN_LISTS.split(field)
        # A sheet without a catalogue may have lists too; a value such as "[used] shoe" is none.
        if not (kind == "spans" and field.lstrip().startswith("[")) and not all(map(_is_list, answers)):
            answers = field.split(SEPARATOR)
    return [answer.strip() for answer in answers if answer.strip()]


def _is_list(answer: str) -> bool:
    if not answer.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(answer), list)
    except (ValueError, RecursionError):
        return False


def spelled_gold(attribute: Attribute, kind: AnswerKind, given: str, text: str) -> str:
    """An answer of a person as votes spell it.

    Args:
        attribute: As the catalogue has it.
        kind: Of its answer.
        given: The answer; spans as JSON [[words, type], ...].
        text: The product's text, which spans must be in.

    Raises:
        LabelError: It is no answer to the attribute; the message says what is wrong and what to write.
    """
    if kind == "spans":
        return _spans(attribute, given, text)
    if kind == "values":
        return _values(attribute, given)
    return given if kind == "text" else _value(attribute, given)


def allowed_answers(attribute: Attribute, kind: AnswerKind) -> str:
    """What may be written for an attribute, for people; "" where anything may."""
    if kind == "label":
        return SEPARATOR.join([*attribute.values, *([NOT_APPLICABLE] if attribute.allow_na else [])])
    if kind == "spans":
        return f'[["words of the title", "type"], ...]; types: {SEPARATOR.join(attribute.values)}'
    if kind == "values":
        of = f" of {_listed(attribute.values)}" if attribute.values else ""
        return f"all that apply{of}, between them {SEPARATOR.strip()!r}"
    return ""


def _value(attribute: Attribute, given: str) -> str:
    value = attribute.normalise(given)
    if value is not None:
        return value
    if not attribute.is_closed:
        raise LabelError(
            f"a value of {len(given)} characters for {attribute.name}; give at most {MAX_VALUE_CHARS}"
        )
    none = f", or {NOT_APPLICABLE!r} if the text does not say" if attribute.allow_na else ""
    raise LabelError(
        f"{given!r} is no value of {attribute.name}: {_listed(attribute.values)}{none}"
        f"{_meant(given, attribute.values)}"
    )


def _values(attribute: Attribute, given: str) -> str:
    if given == NOT_APPLICABLE:
        return given
    try:
        parts = load_values(given) if given.startswith("[") else given.split(SEPARATOR)
    except SpansError as error:
        raise LabelError(f"{error}; write the values of {attribute.name} between {SEPARATOR!r}") from error
    found = {_value(attribute, part.strip()) for part in parts if part.strip()} - {NOT_APPLICABLE}
    return dump_values(found) if found else NOT_APPLICABLE


def _spans(attribute: Attribute, given: str, text: str) -> str:
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
            meant = _meant(kind, attribute.values)
            raise LabelError(f"{kind!r} is no type of {attribute.name}: {_listed(attribute.values)}{meant}")
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
    _refuse_overlaps(laid_out(text, spans), one_line(text))
    return dump_spans(text, spans)


def _refuse_overlaps(spans: Sequence[TextSpan], text: str) -> None:
    for one, other in pairwise(spans):
        if other.start < one.end:
            first, second = text[one.start : one.end], text[other.start : other.end]
            raise LabelError(f"{first!r} and {second!r} overlap; keep one of the two")


def _meant(given: str, values: Sequence[str]) -> str:
    near = get_close_matches(given.casefold(), values, _NEAR, _NEAR_RATIO)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _listed(values: Sequence[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(repr, values[:_SHOWN])) + more
