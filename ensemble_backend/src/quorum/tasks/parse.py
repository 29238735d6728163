# SPDX-License-Identifier: Apache-2.0
"""Parse an LLM's text to one vote per attribute; an unreadable value is an abstention, not an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.tasks.catalogue import Attribute, Catalogue
from quorum_contract import NOT_APPLICABLE, Status


class Vote(NamedTuple):
    """One member's vote on one attribute.

    Attributes:
        value: Canonical; ``""`` for an abstention.
        status: ``ANSWERED``, or the reason of the abstention.
        score: Log-probability of the value's tokens given all before, in nats; None: not known.
    """

    value: str
    status: Status
    score: float | None = None


_DECODER = json.JSONDecoder()
_PAIR = re.compile(
    r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|null|true|false)(?=\s*[,}\n])'
)
_MISSING = object()
_SHORT = 128
_PROSE = r"(?im)^\W*{name}\W*?[:=]\s*(.+?)\s*[,;]?\s*$"


def abstain(status: Status, count: int) -> list[Vote]:
    """``count`` abstentions with one status."""
    return [Vote("", status)] * count


def parse_answer(catalogue: Catalogue, attributes: Sequence[str], answer: str) -> list[Vote]:
    """Parse an LLM's answer.

    Accepts a JSON object, alone, fenced, or within prose; a truncated object (complete pairs count); and
    ``name: value`` lines. Keys match exactly, else ignoring case and surrounding white space. A missing
    key, a nested value, a lone surrogate, or a value that a closed attribute does not have is
    ``UNPARSABLE``.

    Returns:
        One vote per attribute, in their order.
    """
    values = _read(attributes, answer)
    if not values.keys() >= set(attributes):
        # A key spelled exactly as asked wins over one that is equal only after folding.
        folded = {_fold(key): value for key, value in values.items()}
        values = {name: values.get(name, folded.get(_fold(name), _MISSING)) for name in attributes}
    return [_vote(catalogue.get(name), values[name]) for name in attributes]


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
    return _cached_vote(attribute, text) if len(text) <= _SHORT else _text_vote(attribute, text)


def _text_vote(attribute: Attribute, text: str) -> Vote:
    value = attribute.normalise(text)
    return Vote(value, Status.ANSWERED) if value and _is_text(value) else Vote("", Status.UNPARSABLE)


# Products share most of their values.
_cached_vote = lru_cache(maxsize=16_384)(_text_vote)


def _is_text(value: str) -> bool:
    """Whether the value can be encoded: JSON may escape a lone surrogate, which UTF-8 cannot hold."""
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
    values: dict[str, object] = {}
    for key, value in _PAIR.findall(answer):
        try:
            values[json.loads(f'"{key}"')] = json.loads(value)
        except ValueError:
            continue
    return values


def _read_prose(attributes: Sequence[str], answer: str) -> Mapping[str, object]:
    lines = ((name, re.search(_PROSE.format(name=re.escape(name)), answer)) for name in attributes)
    return {name: line[1].strip("`*\"' ") for name, line in lines if line}
