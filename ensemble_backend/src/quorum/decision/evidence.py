# SPDX-License-Identifier: Apache-2.0
"""Weigh each value that members named by the product's text, its own form and the other values.

The 16 numbers of a value are standardised, cut off at :data:`LIMIT`, and summed with a coefficient for each.
Ten depend on text and value only, so they are final as soon as a member has named the value. The others
change while members are being asked; but for the number of candidates they are bounded (:data:`OF_OTHERS`),
and so is the sum (:data:`HIGHEST`): else a value that is not named yet might win almost always, and early
stopping would save nothing. "n/a" has no evidence.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.decision.folding import fold
from quorum.decision.patterns import MAX_MEMBERS
from quorum_contract import NOT_APPLICABLE

IN_TEXT = ("as_written", "any_case", "left_edge", "right_edge", "repeated", "position")
FORM = ("words", "characters", "digit", "capitals")
AMONG_VOTES = ("wholes", "parts", "overlap", "is_part", "is_whole", "candidates")
FEATURES = (*IN_TEXT, *FORM, *AMONG_VOTES)
"""In the text: as written, in any case, its ends at word boundaries, more than once, where (0 to 1). Form:
logarithms of the numbers of words and characters, has a digit, all capitals. Among the votes: share of the
members whose value contains it; whose value it contains; its overlap with the values of others, as a mean of
all members; is a part; is a whole; number of candidates of the cell, "n/a" included."""
LIMIT = 3.0
OF_OTHERS = 0.5
"""Most, and minus the least, evidence by the values of others, the number of candidates left out."""
HIGHEST = 0.75
"""Most evidence of a value, the number of candidates left out."""
MOST = 1e6
"""Largest coefficient, mean and scale."""
_POSITION, _FORM, _AMONG = IN_TEXT.index("position"), len(IN_TEXT), len(IN_TEXT) + len(FORM)
_WHOLES, _PARTS, _OVERLAP, _IS_PART, _IS_WHOLE, _CANDIDATES = range(_AMONG, len(FEATURES))
_OCCURRENCES = 8
"""Of a value in a text, those that are looked at for one between word boundaries."""
_REMEMBERED = 4096
"""Values whose form is kept: many come again and again."""

Coefficients = Mapping[str, tuple[float, float, float]]
"""Feature -> mean, scale and coefficient; a feature that is absent has the coefficient 0."""
Range = tuple[float, float]


class Bounds(NamedTuple):
    """How much evidence there can be in the end, while members are still to be asked.

    A value not named yet can have :data:`HIGHEST`. The number of candidates counts for all values alike, so
    it stands here with the opposite sign for "n/a".

    Attributes:
        named: Lowest and highest evidence of each candidate named so far.
        not_applicable: Of "n/a", named or not.
    """

    named: dict[str, Range]
    not_applicable: Range


def check(evidence: Coefficients) -> None:
    """Refuse, by ValueError, features that are not known, and numbers that are no evidence."""
    if unknown := sorted(set(evidence) - set(FEATURES)):
        raise ValueError(f"evidence: {unknown} are no features; they are {list(FEATURES)}")
    for name, numbers in evidence.items():
        # A comparison with nan is false.
        if not all(abs(number) <= MOST for number in numbers) or not numbers[1] > 0.0:
            raise ValueError(
                f"evidence[{name!r}] is {list(numbers)}: mean, scale and coefficient must be at most "
                f"{MOST:.0e}, and the scale above 0"
            )


class Evidence:
    """The coefficients of weights, ready for texts; see :data:`Coefficients`.

    Attributes:
        alone: Evidence by the values of others where there are none.
        by_candidates: Evidence of every value by the number of candidates.
    """

    def __init__(self, coefficients: Coefficients) -> None:
        self._terms = [coefficients.get(name, (0.0, 1.0, 0.0)) for name in FEATURES]
        # What a feature that is 0 or 1 adds, by its value.
        self._flags = [(self._points(at, 0.0), self._points(at, 1.0)) for at in range(len(FEATURES))]
        no = [pair[0] for pair in self._flags]
        self._not_found, self.alone = sum(no[:_FORM]), _within(sum(no[_AMONG:_CANDIDATES]))
        self.by_candidates = [self._points(_CANDIDATES, number) for number in range(MAX_MEMBERS + 1)]
        self._forms: dict[str, tuple[Form, float]] = {}

    def of(self, text: str) -> TextEvidence | None:
        """The evidence of a product's text; None for one without words: then votes alone decide."""
        return None if is_blank(text) else TextEvidence(self, Text(text))

    def of_value(self, text: Text, value: str) -> float:
        """Evidence of a value by itself: its place in the text, and its form."""
        known = self._forms.get(value)
        form, total = self._remember(value) if known is None else known
        place = text.place(form)
        if place is None:
            return total + self._not_found
        flags = self._flags
        as_written, left, right, repeated, position = place
        total += flags[0][as_written] + flags[1][1] + flags[2][left] + flags[3][right] + flags[4][repeated]
        return total + self._points(_POSITION, position)

    def of_others(self, value: str, counts: Mapping[str, float], members: int) -> float:
        """Evidence of a value by the values that others named; ``counts`` has the votes of each."""
        if len(counts) == 1:
            return self.alone
        wholes, parts, overlap = relations(value, counts)
        total = self._points(_WHOLES, wholes / members) + self._points(_PARTS, parts / members)
        total += self._flags[_IS_PART][wholes > 0] + self._flags[_IS_WHOLE][parts > 0]
        return _within(total + self._points(_OVERLAP, overlap / members))

    def of_others_in_the_end(
        self, value: str, counts: Mapping[str, float], members: int, to_ask: int
    ) -> Range:
        """Lowest and highest evidence by the others, when ``to_ask`` members have not been asked yet."""
        low = high = 0.0
        wholes, parts, overlap = relations(value, counts)
        more = to_ask / members
        shares = ((_WHOLES, wholes / members), (_PARTS, parts / members), (_OVERLAP, overlap / members))
        flags = ((_IS_PART, wholes > 0), (_IS_WHOLE, parts > 0))
        spans = [(at, share, share + more) for at, share in shares]
        for at, least, most in spans + [(at, float(flag), 1.0) for at, flag in flags]:
            ends = self._points(at, least), self._points(at, most)
            low, high = low + min(ends), high + max(ends)
        return _within(low), _within(high)

    def of_others_by_one(self, value: str, counts: Mapping[str, float], members: int, to_ask: int) -> float:
        """Lowest evidence by the others when all ``to_ask`` members name one value that is not named yet.

        That value can contain this one, or be contained in it, but not both.
        """
        wholes, parts, overlap = relations(value, counts)
        shared = min(self._points(_OVERLAP, (overlap + more) / members) for more in (0, to_ask))
        return _within(
            shared
            + min(
                self._points(_WHOLES, (wholes + more) / members)
                + self._points(_PARTS, (parts + less) / members)
                + self._flags[_IS_PART][wholes + more > 0]
                + self._flags[_IS_WHOLE][parts + less > 0]
                for more, less in ((to_ask, 0), (0, to_ask), (0, 0))
            )
        )

    def _remember(self, value: str) -> tuple[Form, float]:
        if len(self._forms) >= _REMEMBERED:
            self._forms.clear()
        form = form_of(value)
        points = sum(self._points(_FORM + at, number) for at, number in enumerate(form.features))
        self._forms[value] = form, points
        return form, points

    def _points(self, feature: int, number: float) -> float:
        mean, scale, coefficient = self._terms[feature]
        away = (number - mean) / scale
        return coefficient * (LIMIT if away > LIMIT else -LIMIT if away < -LIMIT else away)


class TextEvidence:
    """The evidence of one product's text: folded once, for all its attributes."""

    __slots__ = ("_evidence", "_text")

    def __init__(self, evidence: Evidence, text: Text) -> None:
        self._evidence, self._text = evidence, text

    def of(self, votes: Mapping[str, float], members: int) -> dict[str, float]:
        """Evidence of each value, "n/a" left out.

        Args:
            votes: Candidate -> number of its votes; that of a single candidate does not matter.
            members: Number of members, those that abstained included.
        """
        evidence, text = self._evidence, self._text
        shared = evidence.by_candidates[len(votes)]
        if len(votes) == 1:
            return {
                value: min(HIGHEST, evidence.of_value(text, value) + evidence.alone) + shared
                for value in votes
                if value != NOT_APPLICABLE
            }
        values = _values(votes)
        return {
            value: min(HIGHEST, evidence.of_value(text, value) + evidence.of_others(value, values, members))
            + shared
            for value in values
        }

    def bounds(self, votes: Mapping[str, float], members: int, to_ask: int) -> Bounds:
        """How much evidence can be in the end; ``votes`` so far, and the number of members still to ask."""
        evidence, ranges, values = self._evidence, {}, _values(votes)
        for value in values:
            own = evidence.of_value(self._text, value)
            low, high = evidence.of_others_in_the_end(value, values, members, to_ask)
            ranges[value] = min(HIGHEST, own + low), min(HIGHEST, own + high)
        ends = evidence.by_candidates[len(votes)], evidence.by_candidates[len(votes) + to_ask]
        return Bounds(ranges, (-max(ends), -min(ends)))

    def lowest_by_one(self, value: str, votes: Mapping[str, float], members: int, to_ask: int) -> float:
        """Lowest evidence of a candidate when all members still to ask name one value not named yet."""
        evidence = self._evidence
        own = evidence.of_value(self._text, value)
        return min(HIGHEST, own + evidence.of_others_by_one(value, _values(votes), members, to_ask))


class Text:
    """A text folded for look-ups: composed (NFC), as written and without case."""

    __slots__ = ("_ascii", "folded", "written")

    def __init__(self, text: str) -> None:
        self.written, self.folded = fold(text)
        self._ascii = self.folded.isascii()

    def place(self, form: Form) -> tuple[bool, bool, bool, bool, float] | None:
        """Find a value in the folded text; of several places the first between word boundaries counts.

        Returns:
            Whether it is there as written, its left and its right end at word boundaries, more than once, and
            where, from 0 to 1. None: it is not there.
        """
        text, value = self.folded, form.folded
        at = first = text.find(value) if value else -1
        if at < 0:
            return None
        left, right = self._edges(at, len(value))
        repeated = text.find(value, first + len(value)) >= 0
        if repeated and not (left and right):
            other = first
            for _ in range(_OCCURRENCES):
                other = text.find(value, other + 1)
                if other < 0:
                    break
                if all(self._edges(other, len(value))):
                    at, left, right = other, True, True
                    break
        return form.written in self.written, left, right, repeated, at / len(text)

    def _edges(self, start: int, length: int) -> tuple[bool, bool]:
        """Whether a stretch begins and ends at word boundaries; a combining mark belongs to its word."""
        text, end = self.folded, start + length
        left = start == 0 or not text[start - 1].isalnum()
        right = end == len(text) or not text[end].isalnum()
        if not self._ascii:
            left = left and not (start and unicodedata.combining(text[start - 1]))
            right = right and not (end < len(text) and unicodedata.combining(text[end]))
        return left, right


class Form(NamedTuple):
    """A value as written and folded, its words, and the features :data:`FORM`."""

    written: str
    folded: str
    words: frozenset[str]
    features: tuple[float, float, float, float]


@lru_cache(_REMEMBERED)
def form_of(value: str) -> Form:
    """The form of a value; those asked for last are remembered."""
    written, folded = fold(value)
    words = folded.split()
    sizes = (math.log(max(1, len(words))), math.log(max(1, len(folded))))
    flags = (float(any(map(str.isdigit, written))), float(written.isupper()))
    return Form(written, folded, frozenset(words), (*sizes, *flags))


def features(text: Text, named: Sequence[str | None]) -> dict[str, tuple[float, ...]]:
    """The 16 numbers of each value, "n/a" left out, by what each member named (None: it abstained)."""
    votes = counted(named)
    values, found = _values(votes), {}
    for value in values:
        form = form_of(value)
        wholes, parts, overlap = relations(value, values)
        shares = (wholes / len(named), parts / len(named), overlap / len(named))
        in_text: tuple[float, ...] = (0.0,) * len(IN_TEXT)
        if (place := text.place(form)) is not None:
            in_text = (place[0], 1.0, *place[1:])
        numbers = (*in_text, *form.features, *shares, wholes > 0, parts > 0, len(votes))
        found[value] = tuple(map(float, numbers))
    return found


def relations(value: str, counts: Mapping[str, float]) -> tuple[float, float, float]:
    """Votes for values that contain a value, for values that it contains, and its overlap with all others.

    The overlap of two values is the share of their words that they have in common (Jaccard).
    """
    own = form_of(value)
    wholes = parts = overlap = 0.0
    for other, votes in counts.items():
        if other == value:
            continue
        form = form_of(other)
        if _contains(form, own):
            wholes += votes
        elif _contains(own, form):
            parts += votes
        if common := len(own.words & form.words):
            overlap += votes * common / (len(own.words) + len(form.words) - common)
    return wholes, parts, overlap


def _contains(whole: Form, part: Form) -> bool:
    """Whether a value contains a shorter one; a single character only as a word."""
    if len(part.folded) < 2:
        return len(whole.folded) > 1 and part.folded in whole.words
    return len(whole.folded) > len(part.folded) and part.folded in whole.folded


def is_blank(text: str) -> bool:
    """Whether a text says nothing: it is empty or white space."""
    return not text or text.isspace()


def counted(named: Iterable[str | None]) -> dict[str, int]:
    """Candidate -> number of its votes, by what each member named (None: it abstained)."""
    votes: dict[str, int] = {}
    for value in named:
        if value is not None:
            votes[value] = votes.get(value, 0) + 1
    return votes


def _values(votes: Mapping[str, float]) -> dict[str, float]:
    return {value: count for value, count in votes.items() if value != NOT_APPLICABLE}


def _within(points: float) -> float:
    return OF_OTHERS if points > OF_OTHERS else -OF_OTHERS if points < -OF_OTHERS else points
