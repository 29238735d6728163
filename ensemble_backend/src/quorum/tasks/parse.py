# SPDX-License-Identifier: Apache-2.0
"""Parse an LLM's text to one vote per attribute; an unreadable value is an abstention, not an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.tasks.catalogue import Attribute, Catalogue
from quorum.tasks.score import Span, score_of
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
_SPACE = " \t\n\r"
_PAIR = re.compile(
    r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|null|true|false)(?=\s*[,}\n])'
)
_MISSING = object()
_NO_OBJECT = -1
_SHORT = 128
_PROSE = r"(?im)^\W*{name}\W*?[:=]\s*(.+?)\s*[,;]?\s*$"
_PROSE_EDGE = "`*\"' "
_QUOTES = ('"', "'")


def abstain(status: Status, count: int) -> list[Vote]:
    """``count`` abstentions with one status."""
    return [Vote("", status)] * count


def parse_answer(
    catalogue: Catalogue,
    attributes: Sequence[str],
    answer: str,
    ends: Sequence[int] = (),
    log_probs: Sequence[float] = (),
) -> list[Vote]:
    """Parse an LLM's answer.

    Accepts a JSON object, alone, fenced, or within prose; a truncated object (complete pairs count); and
    ``name: value`` lines. Keys match exactly, else ignoring case and surrounding white space. A missing
    key, a nested value, a lone surrogate, or a value that a closed attribute does not have is
    ``UNPARSABLE``.

    Args:
        catalogue: Of the deployment.
        attributes: Names.
        answer: The text.
        ends: (t,) characters of ``answer`` up to and with each token.
        log_probs: (t,) log-probabilities of the tokens; empty: votes get no scores.

    Returns:
        One vote per attribute, in their order.
    """
    values, start = _read(attributes, answer)
    values = _by_name(attributes, values)
    votes = [_vote(catalogue.get(name), values[name]) for name in attributes]
    if not log_probs:
        return votes
    spans = _by_name(attributes, _locate(attributes, answer, start))
    return [_scored(vote, spans[name], ends, log_probs) for vote, name in zip(votes, attributes, strict=True)]


def _by_name(attributes: Sequence[str], found: Mapping[str, object]) -> Mapping[str, object]:
    """What was found under each name, and perhaps more."""
    if found.keys() >= set(attributes):
        return found
    # A key spelled exactly as asked wins over one that is equal only after folding.
    folded = {_fold(key): value for key, value in found.items()}
    return {name: found.get(name, folded.get(_fold(name), _MISSING)) for name in attributes}


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


def _scored(vote: Vote, span: object, ends: Sequence[int], log_probs: Sequence[float]) -> Vote:
    if vote.status is not Status.ANSWERED or not isinstance(span, Span):
        return vote
    return Vote(vote.value, vote.status, score_of(span, ends, log_probs))


def _read(attributes: Sequence[str], answer: str) -> tuple[Mapping[str, object], int]:
    """Values, and where the JSON object begins that they are from."""
    start = answer.find("{")
    while start >= 0:
        try:
            value, _ = _DECODER.raw_decode(answer, start)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict) and value:
            return value, start
        start = answer.find("{", start + 1)
    pairs = {key: value for key, value, _ in _pairs(answer)}
    return pairs or {name: answer[slice(*span)] for name, span in _lines(attributes, answer)}, _NO_OBJECT


def _pairs(answer: str) -> Iterator[tuple[str, object, re.Match[str]]]:
    """Key, value and match of the complete pairs of an object that is cut off."""
    for pair in _PAIR.finditer(answer):
        key, value = pair.groups()
        try:
            yield json.loads(f'"{key}"'), json.loads(value), pair
        except ValueError:
            continue


def _lines(attributes: Sequence[str], answer: str) -> Iterator[tuple[str, Span]]:
    """Name and place of the values of ``name: value`` lines."""
    for name in attributes:
        if line := re.search(_PROSE.format(name=re.escape(name)), answer):
            end = line.start(1) + len(line[1].rstrip(_PROSE_EDGE))
            start = line.end(1) - len(line[1].lstrip(_PROSE_EDGE))
            yield name, Span(min(start, end), end)


def _locate(attributes: Sequence[str], answer: str, start: int) -> Mapping[str, object]:
    """Where each value that :func:`_read` found is; text comes with its closing quote."""
    if start != _NO_OBJECT:
        return _locate_members(answer, start)
    pairs = {key: _locate_value(answer, *pair.span(2)) for key, _, pair in _pairs(answer)}
    if pairs:
        return pairs
    return {
        name: Span(start, end + (answer[end : end + 1] in _QUOTES))
        for name, (start, end) in _lines(attributes, answer)
    }


def _locate_members(answer: str, start: int) -> Mapping[str, object]:
    """Where each member of the valid JSON object at ``start`` has its value, the last of repeated keys."""
    found: dict[str, object] = {}
    at = _skip(answer, start + 1)
    while answer[at] != "}":
        key, at = _DECODER.raw_decode(answer, at)
        at = _skip(answer, _skip(answer, at) + 1)
        end = _DECODER.raw_decode(answer, at)[1]
        found[key] = _locate_value(answer, at, end)
        at = _skip(answer, end)
        if answer[at] == ",":
            at = _skip(answer, at + 1)
    return found


def _locate_value(answer: str, start: int, end: int) -> object:
    """The place of text or a literal, which may be the element of a list; nothing for what is nested."""
    if answer[start] == "[":
        start = _skip(answer, start + 1)
        if answer[start] == "]":
            return _MISSING
        end = _DECODER.raw_decode(answer, start)[1]
    if answer[start] in "[{":
        return _MISSING
    return Span(start + (answer[start] == '"'), end)


def _skip(answer: str, start: int) -> int:
    """The place of the next character that is no white space."""
    while answer[start] in _SPACE:
        start += 1
    return start
