# SPDX-License-Identifier: Apache-2.0
"""Read texts that people write: they stay as they are."""

from __future__ import annotations

from quorum.review.choose import LabelError
from quorum.review.kinds.base import SheetAnswer, anything, whole
from quorum.tasks.attribute import Attribute


def _spelled(attribute: Attribute, given: str, text: str) -> str:
    if len(given) > attribute.max_chars:
        raise LabelError(
            f"a text of {len(given)} characters for {attribute.name}; give at most {attribute.max_chars}"
        )
    return given


TEXT = SheetAnswer(whole, _spelled, anything)
