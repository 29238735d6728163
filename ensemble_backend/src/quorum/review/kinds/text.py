# SPDX-License-Identifier: Apache-2.0
"""Read texts that people write: they stay as they are."""

from __future__ import annotations

from quorum.review.kinds.base import SheetAnswer, anything, whole
from quorum.tasks.attribute import Attribute


def _spelled(attribute: Attribute, given: str, text: str) -> str:
    return given


TEXT = SheetAnswer(whole, _spelled, anything)
