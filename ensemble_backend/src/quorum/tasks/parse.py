# SPDX-License-Identifier: Apache-2.0
"""Parse an LLM's text to one vote per attribute; an unreadable value is an abstention, not an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.decision.answer_kinds import SET_KINDS
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.fragments import DECODER, Fragment, read_lines, read_pairs
from quorum.tasks.kinds import kind_of, read
from quorum.tasks.score import Span, score_of
from quorum_contract import Status


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


MAX_ANSWER_CHARS = 16_384
"""Characters of an answer that are read; the rest is cut."""

_MAX_BROKEN = 64
_OBJECT = re.compile(r'\{(?=\s*+["}])')
_KEY = re.compile(r'"\s*+:')
_SPACE = " \t\n\r"
_MISSING = object()
_SHORT = 128


def abstain(status: Status, count: int) -> list[Vote]:
    """``count`` abstentions with one status."""
    return [Vote("", status)] * count


def parse_answer(
    catalogue: Catalogue,
    attributes: Sequence[str],
    answer: str,
    ends: Sequence[int] = (),
    log_probs: Sequence[float] = (),
    *,
    text: str = "",
) -> list[Vote]:
    """Parse an LLM's answer.

    Accepts a JSON object, alone, fenced, or within prose; a truncated object (complete pairs count); and
    ``name: value`` lines. Keys match exactly, else ignoring case and surrounding white space. Of several
    objects the one with most of the asked keys counts, the last of equals: an LLM may repeat its prompt
    first. A missing key, a lone surrogate, or what the attribute's kind refuses to read
    (:mod:`quorum.tasks.kinds`) is ``UNPARSABLE``. Only the first ``MAX_ANSWER_CHARS`` characters are read, in
    time linear in their number.

    Args:
        catalogue: Of the deployment.
        attributes: Names.
        answer: The text.
        ends: (t,) characters of ``answer`` up to and with each token.
        log_probs: (t,) log-probabilities of the tokens; empty: votes get no scores.
        text: The product's text, which answers of kind ``spans`` must be parts of.

    Returns:
        One vote per attribute, in their order; of spans and of many values without a score.
    """
    answer = answer[:MAX_ANSWER_CHARS]
    found = _read(attributes, answer)
    values = _by_name(attributes, found.values)
    votes = [_vote(catalogue.get(name), values[name], text) for name in attributes]
    if not log_probs:
        return votes
    try:
        places = found.places if found.start is None else _locate_members(answer, found.start)
    except RecursionError:
        return votes
    spans = _by_name(attributes, places)
    return [
        # A list has no place of its own: that of its first element says nothing of the others.
        vote if catalogue.get(name).answer_kind in SET_KINDS else _scored(vote, spans[name], ends, log_probs)
        for vote, name in zip(votes, attributes, strict=True)
    ]


class _Found(NamedTuple):
    """Values by key, and where they are: in the JSON object at ``start``, or at ``places``."""

    values: Mapping[str, object]
    start: int | None
    places: Mapping[str, object]


def _by_name(attributes: Sequence[str], found: Mapping[str, object]) -> Mapping[str, object]:
    """What was found under each name, and perhaps more."""
    if found.keys() >= set(attributes):
        return found
    # A key spelled exactly as asked wins over one that is equal only after folding.
    folded = {_fold(key): value for key, value in found.items()}
    return {name: found.get(name, folded.get(_fold(name), _MISSING)) for name in attributes}


def _fold(name: str) -> str:
    return name.strip().casefold()


def _vote(attribute: Attribute, raw: object, text: str) -> Vote:
    if raw is _MISSING:
        return Vote("", Status.UNPARSABLE)
    if isinstance(raw, str) and len(raw) <= _SHORT and kind_of(attribute).is_shared:
        return _cached_vote(attribute, raw)
    return _read_vote(attribute, raw, text)


def _read_vote(attribute: Attribute, raw: object, text: str = "") -> Vote:
    value = read(attribute, raw, text)
    return Vote(value, Status.ANSWERED) if value and _is_text(value) else Vote("", Status.UNPARSABLE)


# Products share most of their values.
_cached_vote = lru_cache(maxsize=16_384)(_read_vote)


def _is_text(value: str) -> bool:
    """Whether the value can be encoded: JSON may escape a lone surrogate, which UTF-8 cannot hold."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _scored(vote: Vote, span: object, ends: Sequence[int], log_probs: Sequence[float]) -> Vote:
    if vote.status is not Status.ANSWERED or not isinstance(span, Span):
        return vote
    return Vote(vote.value, vote.status, score_of(span, ends, log_probs))


def _read(attributes: Sequence[str], answer: str) -> _Found:
    """Find the values: of a JSON object, else of pairs outside of objects, else of lines."""
    asked = {_fold(name) for name in attributes}
    best, most = None, -1
    objects, is_broken = _objects(answer)
    for one in objects:
        count = _count(asked, one.values)
        if count >= most and not one.is_nested:
            best, most = _Found(one.values, one.start, {}), count
    if best and most == len(asked):
        return best
    pairs = _of_fragments(read_pairs(_without(objects, answer)))
    if best:
        return pairs if _count(asked, pairs.values) > most else best
    # What is left of broken JSON is no lines: the last value may be cut, others may be in one line with it.
    is_json = pairs.values or is_broken or _KEY.search(answer)
    return pairs if is_json else _of_fragments(read_lines(attributes, answer))


class _Object(NamedTuple):
    """A JSON object of the answer, and whether it is a value of one that is broken."""

    values: dict[str, object]
    start: int
    end: int
    is_nested: bool


def _objects(answer: str) -> tuple[list[_Object], bool]:
    """Decode objects one after the other, and say whether any was broken; too many such are the end.

    Reading goes on where an object is broken. What follows within its braces are values of it, but for an
    object that begins a line: indented JSON never has one there.
    """
    found: list[_Object] = []
    broken = at = behind = depth = 0
    has_quotes = False
    while broken < _MAX_BROKEN and (opening := _OBJECT.search(answer, at)):
        start = opening.start()
        try:
            values, at = DECODER.raw_decode(answer, start)
        except json.JSONDecodeError as error:
            at = max(error.pos, start + 1)
            broken += 1
            continue
        except RecursionError:
            return found, True
        # Behind an object that is closed, what comes before the next brace does not count.
        outer = answer.find("{", behind, start) if not depth else behind
        before = answer[outer:start] if outer >= 0 else ""
        behind = at
        has_quotes = '"' in before or (depth > 0 and has_quotes)
        depth = max(0, depth + before.count("{") - before.count("}"))
        is_nested = depth > 0 and has_quotes and answer[start - 1] != "\n"
        if values:
            found.append(_Object(values, start, at, is_nested))
    return found, broken > 0


def _without(objects: Sequence[_Object], answer: str) -> str:
    """The answer with spaces in place of objects."""
    parts: list[str] = []
    at = 0
    for one in objects:
        parts += answer[at : one.start], " " * (one.end - one.start)
        at = one.end
    return "".join([*parts, answer[at:]])


def _count(asked: set[str], found: Mapping[str, object]) -> int:
    return len(asked.intersection(map(_fold, found)))


def _of_fragments(fragments: Iterable[Fragment]) -> _Found:
    """The last of fragments with one key."""
    values: dict[str, object] = {}
    places: dict[str, object] = {}
    for key, value, place in fragments:
        values[key], places[key] = value, place
    return _Found(values, None, places)


def _locate_members(answer: str, start: int) -> Mapping[str, object]:
    """Where each member of the valid JSON object at ``start`` has its value, the last of repeated keys."""
    found: dict[str, object] = {}
    at = _skip(answer, start + 1)
    while answer[at] != "}":
        key, at = DECODER.raw_decode(answer, at)
        at = _skip(answer, _skip(answer, at) + 1)
        end = DECODER.raw_decode(answer, at)[1]
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
        end = DECODER.raw_decode(answer, start)[1]
    if answer[start] in "[{":
        return _MISSING
    return Span(start + (answer[start] == '"'), end)


def _skip(answer: str, start: int) -> int:
    """The place of the next character that is no white space."""
    while answer[start] in _SPACE:
        start += 1
    return start
