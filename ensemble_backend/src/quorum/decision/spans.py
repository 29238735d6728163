# SPDX-License-Identifier: Apache-2.0
"""Spans of a text, each with a type, as VALUES carries them: JSON pairs ``[["iphone 12","product_name"]]``.

Pairs are in the order of appearance. Where a span lies follows from the text and the pairs before it
(:func:`locate`), for every member, for gold and for the answer alike, so the same words give the same span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from quorum_contract.errors import QuorumError
from quorum_contract.fields import one_line

MAX_SPANS = 64
"""Most spans of one answer."""
_MOST_PLACES = 256


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

    Case may differ. Of several places the first one is taken that begins and ends at the border of a word and
    lies behind the pair before; else one at such a border; else any. A pair that is repeated more often than
    the text has it counts once.

    Args:
        text: The product's text; runs of white space count as one space.
        pairs: At most :data:`MAX_SPANS`.

    Returns:
        (s,) different spans in order of appearance; None: more pairs than that, or one is not in the text.
    """
    if len(pairs) > MAX_SPANS:
        return None
    text = one_line(text)
    found: dict[TextSpan, None] = {}
    behind = 0
    for words, kind in pairs:
        place = _place(text, one_line(words), kind, found, behind)
        if place is None:
            return None
        found[place] = None
        behind = place.end
    return sorted(found)


def _place(text: str, words: str, kind: str, taken: Iterable[TextSpan], behind: int) -> TextSpan | None:
    taken = tuple(taken)
    best: tuple[bool, bool, bool, int] | None = None
    for start in _occurrences(text, words):
        end = start + len(words)
        overlaps = any(span.start < end and start < span.end for span in taken)
        inside = not (_is_border(text, start) and _is_border(text, end))
        rank = (overlaps, inside, start < behind, start)
        if best is None or rank < best:
            best = rank
        if rank[:3] == (False, False, False):
            break
    return None if best is None else TextSpan(best[3], best[3] + len(words), kind)


def _occurrences(text: str, words: str) -> Iterator[int]:
    """Where the text has the words: as they are written, or else in any case."""
    lowered = text.lower()
    for haystack, needle in ((text, words), (lowered, words.lower())):
        # Of a few letters the lower case is longer, and offsets would shift.
        if not needle or len(haystack) != len(text) or len(needle) != len(words):
            return
        at, places = haystack.find(needle), 0
        while at >= 0 and places < _MOST_PLACES:
            yield at
            at, places = haystack.find(needle, at + 1), places + 1
        if places:
            return


def _is_border(text: str, at: int) -> bool:
    """Whether a word begins or ends at this place."""
    return at in (0, len(text)) or not (text[at - 1].isalnum() and text[at].isalnum())


def dump_spans(text: str, spans: Iterable[TextSpan]) -> str:
    """Write located spans as VALUES carries them, in order of appearance."""
    text = one_line(text)
    return _dump([[text[s.start : s.end], s.type] for s in sorted(spans)])


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
