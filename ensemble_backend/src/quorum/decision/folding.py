# SPDX-License-Identifier: Apache-2.0
"""Compose texts to one Unicode form, with and without case, in time linear in their length."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

MAX_MARKS = 30
"""Combining marks in a row that are kept; Unicode UAX 15 (Stream-Safe Text Format) allows as many."""
# Marks once they are decomposed, though their own combining class is 0.
_HIDDEN_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"
_HIGH = re.compile(f"[\u0300-\U0010ffff]{{{MAX_MARKS + 1}}}")
# No mark is a letter or digit, but for the two half-width ones, and none is below U+0300.
_RUN = re.compile(f"(?:[^\\w\x00-\u02ff]|[\uff9e\uff9f]){{{MAX_MARKS + 1},}}")


def composed(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """A text in a composed Unicode form; of more than :data:`MAX_MARKS` marks in a row the rest is left out.

    Normalising sorts the marks of a letter, in quadratic time: without the limit a text of 32 KiB takes a
    second. No language needs as many.
    """
    if _HIGH.search(text):
        text = _RUN.sub(_cut, text)
    return unicodedata.normalize(form, text)


def fold(text: str) -> tuple[str, str]:
    """A text composed (NFC), and that without case, composed again."""
    if text.isascii():
        return text, text.lower()
    written = composed(text)
    # Folding takes some letters apart, and folds others only when they are composed.
    return written, composed(written.casefold())


def _cut(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.combining(char) or char in _HIDDEN_MARKS else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return "".join(kept)
