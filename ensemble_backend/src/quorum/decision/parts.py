# SPDX-License-Identifier: Apache-2.0
"""Find partial agreement of open values: "soft cotton" contains "cotton". Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from quorum.decision.folding import fold


def find_part(values: Sequence[str | None]) -> int:
    """Index of the member whose value is contained in a longer value of another; case is ignored.

    Values are compared composed (Unicode NFC), so "cafe" is no part of "café" however its accent is encoded.
    A single character counts only as a word: "s" is part of "size s", not of "shoes"; in scripts of wide
    characters, which put no spaces between words, every character is one.

    ``values`` has one per member, None where it named no value ("n/a" is none). The shortest such value
    counts, the first of several; -1 if there is none.
    """
    if len({value for value in values if value is not None}) < 2:
        return -1
    texts = [None if value is None else fold(value)[1] for value in values]
    member, shortest = -1, 0
    for i, part in enumerate(texts):
        if not part or (member >= 0 and len(part) >= shortest):
            continue
        if any(whole is not None and len(whole) > len(part) and _holds(whole, part) for whole in texts):
            member, shortest = i, len(part)
    return member


def _holds(whole: str, part: str) -> bool:
    if part not in whole:
        return False
    if len(part) > 1 or unicodedata.east_asian_width(part) in "WF":
        return True
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", whole) is not None
