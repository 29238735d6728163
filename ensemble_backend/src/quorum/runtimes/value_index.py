# SPDX-License-Identifier: Apache-2.0
"""Index the values of products that are already filled in, and find those that a text contains."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from quorum.decision.folding import fold
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import MAX_OPEN_VALUE_CHARS
from quorum_contract import NOT_APPLICABLE

# Kana and Han, whose texts have no spaces: each letter is a word.
_SPACELESS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_HEAD = 5
_NEAR = 0.1


@dataclass(frozen=True, slots=True)
class FilledProduct:
    """A product whose values are known.

    Attributes:
        product: Its id; empty: not known.
        text: The text that members are sent.
        values: Attribute -> acceptable values, the preferred one first; "n/a": the text does not say.
    """

    product: str
    text: str
    values: Mapping[str, tuple[str, ...]]


class Found(NamedTuple):
    """A value that a text contains.

    Attributes:
        value: Canonical.
        precision: Of the other products whose text contains the same spelling and whose attribute is filled
            in, the share with this value, as ``(r + 1/2) / (n + 1)``: in (0, 1).
    """

    value: str
    precision: float


class _Label(NamedTuple):
    """The values that are right for a product; none for "n/a" and for values outside a closed set."""

    attribute: str
    values: tuple[str, ...]


@dataclass(slots=True)
class _Spelling:
    """One spelling of a value, with the number of products that contain it, and that also have the value."""

    attribute: str
    value: str
    contained: int = 0
    right: int = 0


class ValueIndex:
    """Values of filled products, by their spellings in texts.

    A spelling is found in any case and with any spaces, in composed Unicode (NFC), from the border of a word
    to the border of a word: "10 X 20" in "box, 10x20"; not "red" in "hundred". Memory grows with distinct
    spellings and with products, not with the length of their texts.

    Attributes:
        attributes: Names that are filled in for any product.

    Precision: posterior mean under Jeffreys' prior (a beta distribution with both parameters 1/2), Brown, Cai
    and DasGupta 2001, doi:10.1214/ss/1009213286.
    """

    def __init__(self, products: Callable[[], Iterable[FilledProduct]], catalogue: Catalogue) -> None:
        """Index products.

        Args:
            products: Called twice, for the same products each time: to collect values, and to count them.
            catalogue: Normalises values. Its own values and synonyms are looked up too.
        """
        self._catalogue = catalogue
        self._spellings: dict[str, tuple[_Spelling, ...]] = {}
        # First letters of spellings that have so many -> letters of the longest one.
        self._reach: dict[str, int] = {}
        # Hash of a text -> the labels of all products with it.
        self._by_text: dict[int, list[_Label]] = {}
        for attribute in catalogue.attributes.values():
            for spelling, value in [*((v, v) for v in attribute.values), *attribute.synonyms.items()]:
                self._add(attribute.name, spelling, value)
        labels: dict[tuple[str, tuple[str, ...]], _Label] = {}
        for product in products():
            for name, values in product.values.items():
                if (name, values) not in labels:
                    labels[name, values] = self._learn(name, values)
        self.attributes = frozenset(name for name, _ in labels)
        for product in products():
            self._count(product.text, {name: labels[name, of] for name, of in product.values.items()})

    def __len__(self) -> int:
        """Number of spellings, counted for each value that they may mean."""
        return sum(map(len, self._spellings.values()))

    def find(
        self, text: str, attributes: Iterable[str], min_precision: float = 0.0, same: Iterable[str] = ()
    ) -> dict[str, Found]:
        """Find a value of each attribute in a text: the longest among those that are nearly the most precise.

        Products with this text, up to case and spaces, count as if they were not in the index.

        Args:
            text: Of the product.
            attributes: Names.
            min_precision: Values below it are not found.
            same: Other texts of the same product; they do not count either.

        Returns:
            Attribute -> value, for attributes of which one is found.
        """
        folded, wanted = _Folded(text), frozenset(attributes)
        contained = self._contained(folded)
        own = self._own(folded, contained, same)
        candidates: dict[str, list[tuple[float, int, str]]] = {}
        for key in contained:
            for spelling in self._spellings[key]:
                if spelling.attribute in wanted:
                    total, right = (
                        _without(spelling, own[key]) if own else (spelling.contained, spelling.right)
                    )
                    precision = (right + 0.5) / (total + 1.0)
                    if right > 0 and precision >= min_precision:
                        found = (precision, len(key), spelling.value)
                        candidates.setdefault(spelling.attribute, []).append(found)
        return {name: _best(found) for name, found in candidates.items()}

    def _own(self, folded: _Folded, contained: set[str], same: Iterable[str]) -> dict[str, list[_Label]]:
        """Labels of the product itself, for each of its spellings; empty where it is not in the index."""
        texts = {folded.key: contained}
        for text in map(_Folded, same):
            texts.setdefault(text.key, self._contained(text))
        known = [(self._by_text.get(hash(key)), keys) for key, keys in texts.items()]
        if not any(labels for labels, _ in known):
            return {}
        return {
            key: [label for labels, keys in known if labels and key in keys for label in labels]
            for key in contained
        }

    def _learn(self, name: str, values: tuple[str, ...]) -> _Label:
        """Add the spellings of the values of a label."""
        attribute, right = self._catalogue.get(name), []
        for spelling in values:
            value = attribute.normalise(spelling)
            if value is not None and value != NOT_APPLICABLE:
                right.append(value)
                self._add(name, spelling, value)
                self._add(name, value, value)
        return _Label(name, tuple(right))

    def _add(self, name: str, spelling: str, value: str) -> None:
        key = _Folded(spelling).key
        known = self._spellings.get(key, ())
        if not 0 < len(key) <= MAX_OPEN_VALUE_CHARS or any(
            s.attribute == name and s.value == value for s in known
        ):
            return
        self._spellings[key] = (*known, _Spelling(name, value))
        if len(key) >= _HEAD:
            self._reach[key[:_HEAD]] = max(len(key), self._reach.get(key[:_HEAD], 0))

    def _count(self, text: str, labels: Mapping[str, _Label]) -> None:
        """Count a product for the spellings that its text contains."""
        folded = _Folded(text)
        self._by_text.setdefault(hash(folded.key), []).extend(labels.values())
        for key in self._contained(folded):
            for spelling in self._spellings[key]:
                label = labels.get(spelling.attribute)
                if label is not None:
                    spelling.contained += 1
                    spelling.right += spelling.value in label.values

    def _contained(self, text: _Folded) -> set[str]:
        """Spellings that a text contains."""
        key, starts, spellings, found = text.key, text.starts, self._spellings, set()
        for token, start in enumerate(starts[:-1], start=1):
            longest = start + self._reach.get(key[start : start + _HEAD], _HEAD - 1)
            for end in map(starts.__getitem__, range(token, len(starts))):
                if end > longest:
                    break
                if (part := key[start:end]) in spellings:
                    found.add(part)
        return found


class _Folded:
    """A text without case and spaces.

    Attributes:
        key: Its tokens, joined.
        starts: Where each of them starts in ``key``, and last its length.
    """

    __slots__ = ("key", "starts")

    def __init__(self, text: str) -> None:
        tokens = _token().findall(fold(text)[1])
        self.key = "".join(tokens)
        self.starts = [0, *accumulate(map(len, tokens))]


@cache
def _token() -> re.Pattern[str]:
    """A word, its letters with their combining marks; or a symbol."""
    marks = "".join(filter(lambda mark: unicodedata.category(mark)[0] == "M", map(chr, range(0x300, 0xFFFF))))
    letters = rf"[^\W{_SPACELESS}]"
    return re.compile(rf"[{_SPACELESS}]|{letters}+(?:[{marks}]+{letters}*)*|[^\w\s]")


def _without(spelling: _Spelling, labels: Iterable[_Label]) -> tuple[int, int]:
    """The counts of a spelling without products of these labels, whose text contains it."""
    own = [label for label in labels if label.attribute == spelling.attribute]
    return spelling.contained - len(own), spelling.right - sum(
        spelling.value in label.values for label in own
    )


def _best(found: Sequence[tuple[float, int, str]]) -> Found:
    """The longest of the nearly most precise; then the most precise, then the first by its letters."""
    bar = max(precision for precision, _, _ in found) - _NEAR
    nearly = (one for one in found if one[0] >= bar)
    precision, _, value = min(nearly, key=lambda one: (-one[1], -one[0], one[2]))
    return Found(value, precision)
