# SPDX-License-Identifier: Apache-2.0
"""What a kind of answer must say of itself."""

from __future__ import annotations

import math
from typing import Any, Protocol

from quorum.tasks.attribute import Attribute


class AnswerKind(Protocol):
    """One kind of answer."""

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """JSON schema of the answer to one attribute."""

    def describe(self, attribute: Attribute) -> str:
        """What the prompt says of the attribute, behind its name."""

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """Read decoded JSON.

        Args:
            attribute: With that kind.
            raw: As JSON was decoded; whole numbers are text.
            text: The product's text.

        Returns:
            The answer in the one spelling that VALUES carries and votes compare; None: it is not allowed.
        """


def sentence(question: str) -> str:
    """A question that another sentence may follow."""
    return question if question.rstrip().endswith((".", "?", "!", ":")) else f"{question.rstrip()}."


def single(raw: object) -> str | None:
    """One text of decoded JSON: a text or number, also alone in a list; None for anything else."""
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if not isinstance(raw, str) and not (isinstance(raw, float) and math.isfinite(raw)):
        return None
    return str(raw)
