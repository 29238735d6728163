# SPDX-License-Identifier: Apache-2.0
"""What a label sheet must know of a kind of answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from quorum.tasks.attribute import Attribute

SEPARATOR = " | "
_BETWEEN_LISTS = re.compile(r"(?<=\])\s*\|\s*(?=\[)")
_NEAR, _NEAR_RATIO = 3, 0.5
"""The most values that are suggested for one that is not in the set, and how alike they are at least."""
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class SheetAnswer:
    """How people write answers of one kind.

    Attributes:
        split: The acceptable answers in a field, best first; they may have white space around them, or none.
        spelled: One answer as votes spell it, given the product's text; raises LabelError, which says what is
            wrong and what to write.
        allowed: What may be written for an attribute, for people; "" where anything may.
    """

    split: Callable[[str], Sequence[str]]
    spelled: Callable[[Attribute, str, str], str]
    allowed: Callable[[Attribute], str]


def whole(field: str) -> list[str]:
    """A field is one answer, whatever it holds."""
    return [field]


def anything(attribute: Attribute) -> str:
    """Nothing to say: anything may be written."""
    return ""


def split_alternatives(field: str) -> list[str]:
    """Alternatives between " | "; between JSON lists only where one ends and the next begins."""
    lists = split_lists(field)
    # A sheet without a catalogue may have lists too; a value such as "[used] shoe" is none.
    return lists if all(map(_is_list, lists)) else field.split(SEPARATOR)


def split_lists(field: str) -> list[str]:
    """Alternatives that are JSON lists."""
    return _BETWEEN_LISTS.split(field)


def meant(given: str, values: Sequence[str]) -> str:
    """The values that somebody may have meant, as the end of a sentence."""
    near = get_close_matches(given.casefold(), values, _NEAR, _NEAR_RATIO)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def listed(values: Sequence[str]) -> str:
    """The first values, and how many more there are."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(repr, values[:_SHOWN])) + more


def _is_list(answer: str) -> bool:
    if not answer.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(answer), list)
    except (ValueError, RecursionError):
        return False
