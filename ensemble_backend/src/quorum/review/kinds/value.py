# SPDX-License-Identifier: Apache-2.0
"""Read single values and labels that people write."""

from __future__ import annotations

from dataclasses import replace

from quorum.review.choose import LabelError
from quorum.review.kinds.base import SEPARATOR, SheetAnswer, anything, listed, meant, split_alternatives
from quorum.tasks.attribute import MAX_VALUE_CHARS, Attribute
from quorum_contract import NOT_APPLICABLE


def spelled_value(attribute: Attribute, given: str, text: str = "") -> str:
    """One value by the catalogue; raises LabelError for one that it does not allow."""
    value = attribute.normalise(given)
    if value is not None:
        return value
    if not attribute.is_closed:
        raise LabelError(
            f"a value of {len(given)} characters for {attribute.name}; give at most {MAX_VALUE_CHARS}"
        )
    none = f", or {NOT_APPLICABLE!r} if the text does not say" if attribute.allow_na else ""
    raise LabelError(
        f"{given!r} is no value of {attribute.name}: {listed(attribute.values)}{none}"
        f"{meant(given, attribute.values)}"
    )


def _labels(attribute: Attribute) -> str:
    return SEPARATOR.join([*attribute.values, *([NOT_APPLICABLE] if attribute.allow_na else [])])


VALUE = SheetAnswer(split_alternatives, spelled_value, anything)
LABEL = replace(VALUE, allowed=_labels)
