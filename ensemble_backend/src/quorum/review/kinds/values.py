# SPDX-License-Identifier: Apache-2.0
"""Read several values that people write: all of them are one answer."""

from __future__ import annotations

from quorum.decision.spans import SpansError, dump_values, load_values
from quorum.review.choose import LabelError
from quorum.review.kinds.base import SEPARATOR, SheetAnswer, listed, whole
from quorum.review.kinds.value import spelled_value
from quorum.tasks.attribute import Attribute
from quorum_contract import NOT_APPLICABLE


def _spelled(attribute: Attribute, given: str, text: str) -> str:
    if given == NOT_APPLICABLE:
        return given
    try:
        parts = load_values(given) if given.startswith("[") else given.split(SEPARATOR)
    except SpansError as error:
        raise LabelError(f"{error}; write the values of {attribute.name} between {SEPARATOR!r}") from error
    if "|" in (part.strip() for part in parts):
        raise LabelError(
            f"{given[:60]!r} has nothing between two bars; write a value on each side of {SEPARATOR!r}"
        )
    found = {spelled_value(attribute, part.strip()) for part in parts if part.strip()} - {NOT_APPLICABLE}
    return dump_values(found) if found else NOT_APPLICABLE


def _allowed(attribute: Attribute) -> str:
    of = f" of {listed(attribute.values)}" if attribute.values else ""
    return f"all that apply{of}, between them {SEPARATOR.strip()!r}"


VALUES = SheetAnswer(whole, _spelled, _allowed)
