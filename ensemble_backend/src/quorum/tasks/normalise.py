# SPDX-License-Identifier: Apache-2.0
"""Normalise values to one spelling, so that votes can agree: case, units, numbers, words for *not given*."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from quorum.decision.folding import composed

_NOT_GIVEN = frozenset(
    ["", "n/a", "na", "none", "null", "unknown", "not specified", "not given", "not stated", "not mentioned"]
)
# ESC, NUL and the like, and the characters that change the direction of text (UAX #9), may falsify what a
# terminal or a page shows; those that are white space become spaces.
_HIDDEN = {
    code: " " if chr(code).isspace() else None
    for span in (
        (0x00, 0x1F),
        (0x7F, 0x9F),
        (0x61C, 0x61C),
        (0x200E, 0x200F),
        (0x2028, 0x202E),
        (0x2066, 0x2069),
    )
    for code in range(span[0], span[1] + 1)
}
_SPACE = re.compile(r"\s+")
_EDGE = " \t\r\n\"'`.,;:"
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TRAILING_ZEROS = re.compile(r"(?<=\d)(?:\.|(\.\d*[^\D0]))0+(?!\d)")
_NUMBER_UNIT = re.compile(r"(\d)\s+(?=[a-zµ\"%])")
_TIMES = re.compile(r"(?<=\d)\s*[x×*]\s*(?=\d)", re.IGNORECASE)
_UNITS = {
    spelling: unit
    for unit, spellings in {
        "mm": "millimeter millimeters millimetre millimetres",
        "cm": "centimeter centimeters centimetre centimetres",
        "m": "meter meters metre metres",
        "in": 'inch inches "',
        "g": "gram grams",
        "kg": "kilogram kilograms kgs",
        "ml": "milliliter milliliters millilitre millilitres",
        "l": "liter liters litre litres",
        "oz": "ounce ounces",
        "lb": "pound pounds lbs",
    }.items()
    for spelling in spellings.split()
}
_UNIT_WORD = re.compile(
    r"(?<=\d)(" + "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True)) + r")(?![a-z])"
)


def visible(value: str) -> str:
    """The value without control characters and characters that change the direction of text."""
    return value if value.isprintable() else value.translate(_HIDDEN)


@lru_cache(maxsize=4096)
def clean(value: str) -> str:
    """Unicode NFKC, single spaces, no quotes or punctuation at the edges; case is kept."""
    return _SPACE.sub(" ", composed(value, "NFKC")).strip(_EDGE)


def text(value: str) -> str:
    """Case-insensitive text: ``" Nike  AIR"`` -> ``"nike air"``."""
    return clean(value).casefold()


def exact(value: str) -> str:
    """The value as written, for catalogues whose case and punctuation carry meaning."""
    return value


def number(value: str) -> str:
    """Text whose numbers have one format: ``"1,500"`` -> ``"1500"``, ``"9,50"``, ``"9.50"`` -> ``"9.5"``."""
    return _numbers(text(value))


def measure(value: str) -> str:
    """Numbers with units: ``"1,5 Kilograms"`` -> ``"1.5kg"``, ``'10 x 20"'`` -> ``"10x20in"``."""
    inch_mark_kept = _SPACE.sub(" ", composed(value, "NFKC")).strip(_EDGE.replace('"', ""))
    joined = _NUMBER_UNIT.sub(r"\1", _numbers(inch_mark_kept.casefold()))
    return _UNIT_WORD.sub(lambda match: _UNITS[match[1]], joined)


def _numbers(value: str) -> str:
    points = _DECIMAL_COMMA.sub(".", _THOUSANDS.sub("", value))
    return _TRAILING_ZEROS.sub(r"\1", _TIMES.sub("x", points))


NORMALISERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"text": text, "exact": exact, "number": number, "measure": measure}
)


def is_not_given(value: str) -> bool:
    """Whether ``value`` means that the text does not state the attribute: "unknown", "not given", ..."""
    return text(value) in _NOT_GIVEN
