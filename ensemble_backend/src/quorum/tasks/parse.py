# SPDX-License-Identifier: Apache-2.0
"""From what an LLM wrote to one vote per attribute; what is unreadable becomes an abstention, no error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.tasks.catalogue import Attribute, Catalogue
from quorum_contract import NOT_APPLICABLE, Status


class Vote(NamedTuple):
    """One member's answer to one attribute: a canonical value, or ``""`` with the reason why not."""

    value: str
    status: Status


_DECODER = json.JSONDecoder()
_PAIR = re.compile(
    r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|null|true|false)(?=\s*[,}\n])'
)
_MISSING = object()
_SHORT = 128
_PROSE = r"(?im)^\W*{name}\W*?[:=]\s*(.+?)\s*[,;]?\s*$"


def abstain(status: Status, count: int) -> list[Vote]:
    """``count`` abstentions for one reason."""
    return [Vote("", status)] * count


def parse_answer(catalogue: Catalogue, attributes: Sequence[str], answer: str) -> list[Vote]:
    """Read an LLM's answer.

    Understands a JSON object, alone, fenced, or amid prose; an object cut off in the middle (complete
    pairs count); and ``name: value`` lines. Keys match exactly, else without regard to case and white space
    around them. A missing key, a nested value, half a character, or a value that a closed attribute does
    not have is ``UNPARSABLE``.

    Args:
        catalogue: Gives each attribute's normalisation.
        attributes: ``A`` names, in the order of the result.
        answer: The generated text.

    Returns:
        ``A`` votes.
    """
    found = _read(attributes, answer)
    if not found.keys() >= set(attributes):
        # A key spelled exactly as asked wins over one that only reads alike.
        alike = {_fold(key): value for key, value in found.items()}
        found = {name: found.get(name, alike.get(_fold(name), _MISSING)) for name in attributes}
    return [_vote(catalogue.get(name), found[name]) for name in attributes]


def _fold(name: str) -> str:
    return name.strip().casefold()


def _vote(attribute: Attribute, raw: object) -> Vote:
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if raw is None:
        return Vote(NOT_APPLICABLE, Status.ANSWERED)
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return Vote("", Status.UNPARSABLE)
    text = str(raw)
    return _seen(attribute, text) if len(text) <= _SHORT else _said(attribute, text)


def _said(attribute: Attribute, text: str) -> Vote:
    value = attribute.normalise(text)
    return Vote(value, Status.ANSWERED) if value and _is_text(value) else Vote("", Status.UNPARSABLE)


# Products share most of their values, so most have been looked at before.
_seen = lru_cache(maxsize=16_384)(_said)


def _is_text(value: str) -> bool:
    """Whether the value can be sent: JSON may escape half a character, which no encoding has."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _read(attributes: Sequence[str], answer: str) -> Mapping[str, object]:
    start = answer.find("{")
    while start >= 0:
        try:
            value, _ = _DECODER.raw_decode(answer, start)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict) and value:
            return value
        start = answer.find("{", start + 1)
    return _read_pairs(answer) or _read_prose(attributes, answer)


def _read_pairs(answer: str) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for key, value in _PAIR.findall(answer):
        try:
            found[json.loads(f'"{key}"')] = json.loads(value)
        except ValueError:
            continue
    return found


def _read_prose(attributes: Sequence[str], answer: str) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for name in attributes:
        line = re.search(_PROSE.format(name=re.escape(name)), answer)
        if line:
            found[name] = line[1].strip("`*\"' ")
    return found
