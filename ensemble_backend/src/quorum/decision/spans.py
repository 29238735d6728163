# SPDX-License-Identifier: Apache-2.0
"""Spans of a text, each with a type, as VALUES carries them: JSON pairs ``[["iphone 12","product_name"]]``.

Pairs are in the order of appearance. Where a span lies follows from the text, its words, and how often the
answer names these (:func:`locate`), for every member, for gold and for the answer alike, so the same words
give the same span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from quorum_contract.errors import QuorumError
from quorum_contract.fields import one_line

MAX_SPANS = 64
"""Most spans of one answer."""
_MOST_PLACES = 128


class SpansError(QuorumError, ValueError):
    """A text is no JSON list of pairs ``[text, type]``, or no JSON list of values."""

    code = "SPANS_INVALID"


class TextSpan(NamedTuple):
    """Characters ``start`` up to, but not with, ``end`` of a text whose words are joined by single spaces."""

    start: int
    end: int
    type: str


def locate(text: str, pairs: Sequence[tuple[str, str]]) -> list[TextSpan] | None:
    """Find each pair of (text, type) in the text.

    Words that n pairs name, in any case, lie at the first n places of :func:`places_of`, in the order of the
    pairs; of more pairs than places the last ones share the last place. Other pairs have no say, so that the
    same words mean the same span whatever else an answer names.

    Args:
        text: The product's text; runs of white space count as one space.
        pairs: At most :data:`MAX_SPANS`.

    Returns:
        (s,) different spans in order of appearance; None: more pairs than that, or one is not in the text.
    """
    if len(pairs) > MAX_SPANS:
        return None
    folded = _folded(one_line(text))
    named: dict[str, list[str]] = {}
    for words, kind in pairs:
        named.setdefault(_folded(one_line(words)), []).append(kind)
    found: set[TextSpan] = set()
    for words, kinds in named.items():
        starts = sorted(_places(folded, words, len(kinds)))
        if not starts:
            return None
        for at, kind in enumerate(kinds):
            start = starts[min(at, len(starts) - 1)]
            found.add(TextSpan(start, start + len(words), kind))
    return sorted(found)


def places_of(text: str, words: str) -> list[int]:
    """Where a text has words, in any case: places at the borders of words first, none over another.

    Of more than a hundred places the first ones count.
    """
    return _places(_folded(one_line(text)), _folded(one_line(words)), MAX_SPANS)


def _places(text: str, words: str, count: int) -> list[int]:
    """At most ``count`` places, of a text and words without case."""
    size = len(words)
    at = text.find(words) if words else -1
    inside: list[int] = []
    chosen: list[int] = []
    for _ in range(_MOST_PLACES):
        if at < 0 or len(chosen) == count:
            break
        if not (_is_border(text, at) and _is_border(text, at + size)):
            inside.append(at)
        elif not chosen or at >= chosen[-1] + size:
            chosen.append(at)
        at = text.find(words, at + 1)
    for at in inside if len(chosen) < count else ():
        if all(abs(at - other) >= size for other in chosen):
            chosen.append(at)
            if len(chosen) == count:
                break
    return chosen


def _folded(text: str) -> str:
    """The text without case, letter by letter: one that folds to several stays, so that places stay."""
    if text.isascii():
        return text.lower()
    return text.translate({ord(c): folded for c in set(text) if len(folded := c.casefold()) == 1})


def _is_border(text: str, at: int) -> bool:
    """Whether a word begins or ends at this place."""
    return at in (0, len(text)) or not (text[at - 1].isalnum() and text[at].isalnum())


def room_for(text: str, spans: Iterable[TextSpan]) -> dict[TextSpan, int | None]:
    """Where each span overlaps with none of those before it: where it lies, else at a place of its words.

    Returns:
        Span -> start, in the order given; None: there is no such place.
    """
    text, found = one_line(text), dict[TextSpan, int | None]()
    taken: list[tuple[int, int]] = []
    for span in spans:
        size, start = span.end - span.start, None
        if _is_free(span.start, size, taken):
            start = span.start
        else:
            places = places_of(text, text[span.start : span.end])
            start = next((at for at in places if _is_free(at, size, taken)), None)
        found[span] = start
        if start is not None:
            taken.append((start, start + size))
    return found


def _is_free(at: int, size: int, taken: Iterable[tuple[int, int]]) -> bool:
    return all(at + size <= start or end <= at for start, end in taken)


def dump_spans(text: str, spans: Iterable[TextSpan]) -> str:
    """Write located spans as VALUES carries them, in order of appearance, as :func:`laid_out`."""
    text = one_line(text)
    return _dump([[text[s.start : s.end], s.type] for s in laid_out(text, spans)])


def laid_out(text: str, spans: Iterable[TextSpan]) -> list[TextSpan]:
    """Located spans in order of appearance, without overlaps where the text has room.

    One that overlaps with a longer one moves to another place of its words: "red" is the second one of
    "red hat red" where an answer also has "red hat". What has no such place still overlaps.
    """
    text, ordered = one_line(text), sorted(spans)
    if overlap_of(ordered) is None:
        return ordered
    places = zip(_shown(text, ordered), ordered, strict=True)
    moved = sorted((start, start + s.end - s.start, s) for start, s in places)
    return [TextSpan(start, end, span.type) for start, end, span in moved]


def overlap_of(spans: Sequence[TextSpan]) -> tuple[TextSpan, TextSpan] | None:
    """The first two spans, of those in order of appearance, that share characters."""
    return next(((one, other) for one, other in pairwise(spans) if other.start < one.end), None)


def _shown(text: str, spans: Sequence[TextSpan]) -> list[int]:
    """Where each span is written; of the same words in their order, so that they are located again alike."""
    room = room_for(text, sorted(spans, key=lambda s: (s.start - s.end, s)))
    groups: dict[str, list[int]] = {}
    keys = [_folded(text[span.start : span.end]) for span in spans]
    for key, span in zip(keys, spans, strict=True):
        start = room[span]
        groups.setdefault(key, []).append(span.start if start is None else start)
    rising = {key: iter(sorted(starts)) for key, starts in groups.items()}
    return [next(rising[key]) for key in keys]


def load_pairs(value: str) -> list[tuple[str, str]]:
    """Read pairs of text and type from JSON; raises SpansError for anything else."""
    return pairs_of(_load(value))


def pairs_of(decoded: object) -> list[tuple[str, str]]:
    """Check decoded JSON: a list of [text, type]; raises SpansError for anything else."""
    if not isinstance(decoded, list):
        raise SpansError(f"{decoded!r:.80} is no list of [text, type]")
    for pair in decoded:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise SpansError(f"{pair!r:.80} is no pair [text, type]")
    return [(words, kind) for words, kind in decoded]


def dump_values(values: Iterable[str]) -> str:
    """Write several values as VALUES carries them: a JSON list, sorted."""
    return _dump(sorted(set(values)))


def load_values(value: str) -> list[str]:
    """Read several values from a JSON list; raises SpansError for anything else."""
    decoded = _load(value)
    if not isinstance(decoded, list) or not all(isinstance(one, str) for one in decoded):
        raise SpansError(f"{value!r:.80} is no JSON list of texts")
    return decoded


def _dump(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _load(value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise SpansError(f"{value!r:.80} is no JSON: {error}") from error
