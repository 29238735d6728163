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
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

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
    """The coefficients of weights, ready for texts; see :data:`Coefficients`."""

    def __init__(self, coefficients: Coefficients) -> None:
        self._terms = [coefficients.get(name, (0.0, 1.0, 0.0)) for name in FEATURES]
        self._no, self._yes = ([self._points(at, x) for at in range(len(FEATURES))] for x in (0.0, 1.0))
        self._not_found, self._alone = sum(self._no[:_FORM]), _within(sum(self._no[_AMONG:_CANDIDATES]))
        self._no_whole, self._no_part = (
            self._no[a] + self._no[b] for a, b in ((_WHOLES, _IS_PART), (_PARTS, _IS_WHOLE))
        )
        self._forms: dict[str, float] = {}

    def of(self, text: str) -> TextEvidence | None:
        """The evidence of a product's text; None for one without words: then votes alone decide."""
        return None if is_blank(text) else TextEvidence(self, Text(text))

    def of_value(self, text: Text, value: str) -> float:
        """Evidence of a value by itself: its place in the text, and its form."""
        form = form_of(value)
        total = self._forms.get(value)
        if total is None:
            if len(self._forms) >= _REMEMBERED:
                self._forms.clear()
            total = sum(self._points(_FORM + at, number) for at, number in enumerate(form.features))
            self._forms[value] = total
        place = text.find(form)
        if place is None:
            return total + self._not_found
        for at, number in enumerate(place[:_POSITION]):
            total += self._yes[at] if number else self._no[at]
        return total + self._points(_POSITION, place[_POSITION])

    def of_others(self, value: str, counts: Mapping[str, int], members: int) -> float:
        """Evidence of a value by the values that others named; ``counts`` has the votes of each."""
        if len(counts) == 1:
            return self._alone
        no, yes = self._no, self._yes
        wholes, parts, overlap = relations(value, counts)
        total = self._points(_OVERLAP, overlap / members) if overlap else no[_OVERLAP]
        total += self._points(_WHOLES, wholes / members) + yes[_IS_PART] if wholes else self._no_whole
        total += self._points(_PARTS, parts / members) + yes[_IS_WHOLE] if parts else self._no_part
        return _within(total)

    def of_others_in_the_end(self, value: str, counts: Mapping[str, int], members: int, to_ask: int) -> Range:
        """Lowest and highest evidence by the others, when ``to_ask`` members have not been asked yet."""
        low = high = 0.0
        wholes, parts, overlap = relations(value, counts)
        for at, number in ((_WHOLES, wholes), (_PARTS, parts), (_OVERLAP, overlap)):
            least, most = self._range(at, number / members, (number + to_ask) / members)
            low, high = low + least, high + most
        for at, number in ((_IS_PART, wholes), (_IS_WHOLE, parts)):
            least, most = self._range(at, float(number > 0), 1.0)
            low, high = low + least, high + most
        return _within(low), _within(high)

    def of_candidates(self, least: int, most: int) -> Range:
        """Lowest and highest evidence by the number of candidates."""
        return self._range(_CANDIDATES, least, most)

    def _points(self, feature: int, number: float) -> float:
        mean, scale, coefficient = self._terms[feature]
        away = (number - mean) / scale
        return coefficient * (LIMIT if away > LIMIT else -LIMIT if away < -LIMIT else away)

    def _range(self, feature: int, low: float, high: float) -> Range:
        ends = self._points(feature, low), self._points(feature, high)
        return min(ends), max(ends)


class TextEvidence:
    """The evidence of one product's text: folded once, for all its attributes."""

    __slots__ = ("_evidence", "_text")

    def __init__(self, evidence: Evidence, text: Text) -> None:
        self._evidence, self._text = evidence, text

    def of(self, named: Sequence[str | None]) -> dict[str, float]:
        """Evidence of each value, "n/a" left out.

        Args:
            named: Per member, the value that it named; None: it abstained.
        """
        counts, candidates = _counted(named)
        evidence, text, members = self._evidence, self._text, len(named)
        shared = evidence.of_candidates(candidates, candidates)[0]
        points = {
            value: evidence.of_value(text, value) + evidence.of_others(value, counts, members)
            for value in counts
        }
        return {value: min(HIGHEST, own) + shared for value, own in points.items()}

    def bounds(self, named: Sequence[str | None], to_ask: int) -> Bounds:
        """How much evidence can be in the end; ``named`` as in :meth:`of`, None for members to be asked."""
        counts, candidates = _counted(named)
        evidence, ranges = self._evidence, {}
        for value in counts:
            own = evidence.of_value(self._text, value)
            low, high = evidence.of_others_in_the_end(value, counts, len(named), to_ask)
            ranges[value] = min(HIGHEST, own + low), min(HIGHEST, own + high)
        low, high = evidence.of_candidates(candidates, candidates + to_ask)
        return Bounds(ranges, (-high, -low))


class Text:
    """A text folded for look-ups: composed (NFC), as written and without case."""

    __slots__ = ("folded", "written")

    def __init__(self, text: str) -> None:
        self.written, self.folded = fold(text)

    def find(self, form: Form) -> tuple[float, ...] | None:
        """The features :data:`IN_TEXT` of a value; None: it is not there.

        Of several places the first one between word boundaries counts. Places are those in the folded text.
        """
        text, value = self.folded, form.folded
        first = text.find(value) if value else -1
        if first < 0:
            return None
        at, (left, right) = first, _edges(text, first, first + len(value))
        repeated = text.find(value, first + len(value)) >= 0
        if repeated and not (left and right):
            other = first
            for _ in range(_OCCURRENCES):
                other = text.find(value, other + 1)
                if other < 0:
                    break
                if all(_edges(text, other, other + len(value))):
                    at, left, right = other, True, True
                    break
        return (form.written in self.written, 1.0, left, right, repeated, at / len(text))


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
    """The 16 numbers of each value that members named, "n/a" left out; see :data:`FEATURES`.

    ``named`` as in :meth:`TextEvidence.of`.
    """
    counts, candidates = _counted(named)
    found = {}
    for value in counts:
        form = form_of(value)
        wholes, parts, overlap = relations(value, counts)
        shares = (wholes / len(named), parts / len(named), overlap / len(named))
        place = text.find(form) or (0.0,) * len(IN_TEXT)
        numbers = (*place, *form.features, *shares, wholes > 0, parts > 0, candidates)
        found[value] = tuple(map(float, numbers))
    return found


def relations(value: str, counts: Mapping[str, int]) -> tuple[int, int, float]:
    """Votes for values that contain a value, for values that it contains, and its overlap with all others.

    The overlap of two values is the share of their words that they have in common (Jaccard).
    """
    own = form_of(value)
    wholes, parts, overlap = 0, 0, 0.0
    for other, votes in counts.items():
        if other == value:
            continue
        form = form_of(other)
        if 0 < len(own.folded) < len(form.folded):
            wholes += votes * (own.folded in form.folded)
        elif 0 < len(form.folded) < len(own.folded):
            parts += votes * (form.folded in own.folded)
        if common := len(own.words & form.words):
            overlap += votes * common / (len(own.words) + len(form.words) - common)
    return wholes, parts, overlap


def fold(text: str) -> tuple[str, str]:
    """A text composed (NFC), and that without case, composed again."""
    if text.isascii():
        return text, text.lower()
    written = unicodedata.normalize("NFC", text)
    return written, unicodedata.normalize("NFC", written.casefold())


def is_blank(text: str) -> bool:
    """Whether a text says nothing: it is empty or white space."""
    return not text or text.isspace()


def _counted(named: Sequence[str | None]) -> tuple[dict[str, int], int]:
    """Votes of each value but "n/a", and the number of candidates."""
    counts: dict[str, int] = {}
    for value in named:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    candidates = len(counts)
    counts.pop(NOT_APPLICABLE, None)
    return counts, candidates


def _within(points: float) -> float:
    return OF_OTHERS if points > OF_OTHERS else -OF_OTHERS if points < -OF_OTHERS else points


def _edges(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether a stretch of a text begins and ends at word boundaries."""
    return start == 0 or not _in_word(text[start - 1]), end == len(text) or not _in_word(text[end])


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.combining(character) > 0
