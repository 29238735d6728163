# SPDX-License-Identifier: Apache-2.0
"""Find how people write answers of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quorum.decision.answer_kinds import AnswerKind
from quorum.review.kinds.base import SheetAnswer
from quorum.review.kinds.spans import SPANS
from quorum.review.kinds.text import TEXT
from quorum.review.kinds.value import LABEL, VALUE
from quorum.review.kinds.values import VALUES
from quorum.tasks.attribute import Attribute

KINDS: Mapping[AnswerKind, SheetAnswer] = MappingProxyType(
    {"value": VALUE, "label": LABEL, "spans": SPANS, "values": VALUES, "text": TEXT}
)


def split_gold(field: str, kind: AnswerKind) -> list[str]:
    """The acceptable answers in what a person wrote, best first.

    They are separated by " | ". A written text is one answer, whatever it holds; so are several values, which
    " | " separates too. Between JSON lists of spans it may stand only where one ends and the next begins.
    """
    return [answer.strip() for answer in KINDS[kind].split(field) if answer.strip()]


def spelled_gold(attribute: Attribute, given: str, text: str) -> str:
    """An answer of a person as votes spell it.

    Args:
        attribute: As the catalogue has it.
        given: The answer; spans as JSON [[words, type], ...].
        text: The product's text, which spans must be in.

    Raises:
        LabelError: It is no answer to the attribute; the message says what is wrong and what to write.
    """
    return KINDS[attribute.answer_kind].spelled(attribute, given, text)


def allowed_answers(attribute: Attribute) -> str:
    """What may be written for an attribute, for people; "" where anything may."""
    return KINDS[attribute.answer_kind].allowed(attribute)
