# SPDX-License-Identifier: Apache-2.0
"""Decide answers that name any number of things, spans of a text or several values: each is voted on.

Every thing that a member named is a cell of its own, in which a member votes :data:`NAMED` or "n/a", which
means here that it did not name it. So the weights, biases and confidences of single values apply unchanged,
and learning sees the same cells (:func:`explode`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from quorum.decision.cell import ANSWERED, NOT_APPLICABLE, Ballot
from quorum.decision.spans import (
    SpansError,
    TextSpan,
    dump_spans,
    dump_values,
    load_pairs,
    load_values,
    locate,
    room_for,
)

NAMED = "named"
_SHORT = 2000
"""Characters of an answer and its text, of which what it names is remembered."""
_MOST_ODDS = 12.0
_LEAST = 1.0 / (1.0 + math.exp(_MOST_ODDS))
Thing = TextSpan | str
Decide = Callable[[Sequence[Ballot]], tuple[str, float]]
"""Decides one cell: value and confidence."""
Votes = Sequence[str | None]
"""Per member, what it votes on one thing; None: it abstained."""
DecideVotes = Callable[[Votes], tuple[str, float]]
"""As :data:`Decide`, by votes."""
Read = Callable[[str, str], tuple[Thing, ...]]
"""Reads an answer about a text: :func:`things_of`, or :func:`things_remembered`."""


def things_of(value: str, text: str) -> tuple[Thing, ...]:
    """What an answer names: spans of ``text``, or values; empty for "n/a".

    Raises:
        SpansError: It is neither, or names what the text does not have.
    """
    if value == NOT_APPLICABLE:
        return ()
    try:
        return tuple(load_values(value))
    except SpansError:
        spans = locate(text, load_pairs(value))
    if spans is None:
        raise SpansError(f"{value!r:.80} names a span that is not in {text!r:.80}")
    return tuple(spans)


_remembered = lru_cache(maxsize=1 << 16)(things_of)


def things_remembered(value: str, text: str) -> tuple[Thing, ...]:
    """:func:`things_of` for learning and evaluation, which read an answer many times, as serving does not."""
    return _remembered(value, text) if len(value) + len(text) <= _SHORT else things_of(value, text)


def explode(values: Sequence[str | None], text: str) -> dict[Thing, tuple[str | None, ...]]:
    """Per thing that a member named: each member's vote, ``NAMED``, "n/a", or None for an abstention.

    Args:
        values: Per member, its answer; None: it abstained. One that cannot be read counts as that.
        text: The product's text.
    """
    return cells_of([readable_things(value, text, things_remembered) for value in values])


def cells_of(named: Sequence[tuple[Thing, ...] | None]) -> dict[Thing, tuple[str | None, ...]]:
    """Per thing that a member named: each member's vote on it; None: the member has no say."""
    every = {thing: None for things in named if things is not None for thing in things}
    return {
        thing: tuple(
            None if things is None else NAMED if thing in things else NOT_APPLICABLE for things in named
        )
        for thing in sorted(every, key=_order)
    }


def decide_set(
    decide: Decide, ballots: Sequence[Ballot], text: str, *, are_spans: bool, read: Read = things_of
) -> tuple[str, float]:
    """Decide one answer.

    Kept is what wins its own cell. Of spans that overlap the one with the higher confidence stays, then the
    longer one, then the first.

    Args:
        decide: Decides the cell of one thing by the ballots of all members.
        ballots: Per member, its answer and status.
        text: The product's text.
        are_spans: Whether the answers are spans of the text, not values.
        read: Reads what an answer names.

    Returns:
        The answer, and the confidence of :func:`decide_things`. ``("", 0.0)`` if all members abstained.
    """
    named = [readable_things(value, text, read) if status == ANSWERED else None for value, status in ballots]
    if all(things is None for things in named):
        return "", 0.0
    cells = cells_of(named)
    if not cells:
        none = [None if things is None else NOT_APPLICABLE for things in named]
        said = {value for (value, _), things in zip(ballots, named, strict=True) if things is not None}
        # Spans of a product that does not have the attribute: members vote "n/a" on it, not "[]".
        value = NOT_APPLICABLE if said == {NOT_APPLICABLE} else _written((), text, are_spans=are_spans)
        return value, decide(as_ballots(none))[1]
    kept, confidence = decide_things(lambda votes: decide(as_ballots(votes)), cells, text, are_spans)
    return _written(kept, text, are_spans=are_spans), confidence


def decide_things(
    decide: DecideVotes, cells: Mapping[Thing, Votes], text: str, are_spans: bool
) -> tuple[tuple[Thing, ...], float]:
    """Decide which of the things that members named, one or more, are in the answer.

    Returns:
        These, and the lowest of the confidences in what is, and what is not, among them; that in leaving out
        a span for another is what the span's own leaves to 1.
    """
    sure: dict[Thing, float] = {}
    lowest = 1.0
    for thing, votes in cells.items():
        value, confidence = decide(votes)
        if value == NAMED:
            sure[thing] = confidence
        else:
            lowest = min(lowest, confidence)
    kept = without_overlaps(sure, text) if are_spans else tuple(sure)
    # A span that won its cell, and is left out for another, is left out against its own confidence.
    shares = [sure[thing] if thing in kept else 1.0 - sure[thing] for thing in sure]
    return kept, min([lowest, *shares])


def as_ballots(votes: Votes) -> list[Ballot]:
    """Ballots of the votes of a cell of :func:`explode`."""
    return [("", ANSWERED + 1) if vote is None else (vote, ANSWERED) for vote in votes]


def chance_of(confidence: float, line: Sequence[float]) -> float:
    """Chance that a whole answer is right, by its confidence: a line between their log odds.

    Args:
        confidence: Of :func:`decide_set`, in [0, 1].
        line: Intercept and slope, learned from answers with gold; (): the confidence itself.
    """
    if not line:
        return confidence
    return 1.0 / (
        1.0 + math.exp(-min(max(line[0] + line[1] * log_odds(confidence), -_MOST_ODDS), _MOST_ODDS))
    )


def log_odds(confidence: float) -> float:
    """Log odds of a confidence, at most 12 from zero."""
    low = min(max(confidence, _LEAST), 1.0 - _LEAST)
    return math.log(low / (1.0 - low))


def without_overlaps(sure: Mapping[Thing, float], text: str = "") -> tuple[Thing, ...]:
    """The spans, of a mapping to confidences, that do not overlap: the surest, then longest, then first.

    A span also stays that has room at another place of its words in ``text``: "red" with "red hat", in
    "red hat red".
    """
    spans = [thing for thing in sure if isinstance(thing, TextSpan)]
    room = room_for(text, sorted(spans, key=lambda s: (-sure[s], s.start - s.end, s)))
    return tuple(sorted(span for span, start in room.items() if start is not None))


def _written(things: Iterable[Thing], text: str, *, are_spans: bool) -> str:
    if are_spans:
        return dump_spans(text, [thing for thing in things if isinstance(thing, TextSpan)])
    values = [thing for thing in things if isinstance(thing, str)]
    return dump_values(values) if values else NOT_APPLICABLE


def readable_things(value: str | None, text: str, read: Read) -> tuple[Thing, ...] | None:
    """What an answer names; None for none, and for one that cannot be read."""
    if value is None:
        return None
    try:
        return read(value, text)
    except SpansError:
        return None


def _order(thing: Thing) -> tuple[str, ...] | tuple[int, int, str]:
    return (thing,) if isinstance(thing, str) else (thing.start, thing.end, thing.type)
