# SPDX-License-Identifier: Apache-2.0
"""Texts are composed in linear time: no more marks in a row reach Unicode's normalisation than are kept."""

from __future__ import annotations

import itertools
import sys
import unicodedata

import pytest

from quorum.decision.evidence import Text
from quorum.decision.folding import MAX_MARKS, composed, fold
from quorum.decision.parts import find_part
from quorum.runtimes.value_index import _Folded
from quorum.tasks.normalise import measure, text

# A letter with two marks of its own decomposes to as many more.
MOST = MAX_MARKS + 3
HOSTILE = {
    "sorted against the order": "a" + "\u0345" * 4000 + "\u0301" * 4000 + "\u0316" * 4000 + "\u0334" * 4000,
    "alternating": "a" + "\u0301\u0316" * 8000,
    "class 0, and yet marks": "a" + "\u0f73\u0301\u0f81" * 5000,
    "half-width": "a" + "\uff9e\u0301\uff9f" * 5000,
    "no letter": "\u0301\u0316" * 8000,
    "astral": "a" + "\U0001d165\U0001d16d\u0301" * 5000,
}


def longest_run(string: str, form: str = "NFKD") -> int:
    """Marks in a row of a string that is decomposed letter by letter, so that nothing is sorted."""
    parts = "".join(unicodedata.normalize(form, char) for char in string)
    runs = itertools.groupby(parts, lambda char: bool(unicodedata.combining(char)))
    return max((len(list(run)) for is_marks, run in runs if is_marks), default=0)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_every_place_that_composes_texts_bounds_their_marks(
    hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    class Spy:
        """The module, noting what it is asked to normalise, and not doing so."""

        combining = staticmethod(unicodedata.combining)
        east_asian_width = staticmethod(unicodedata.east_asian_width)
        category = staticmethod(unicodedata.category)

        @staticmethod
        def normalize(form: str, string: str) -> str:
            given.append(string)
            return string

    assert longest_run(hostile) > 10_000
    for module in ("decision.folding", "decision.evidence", "decision.parts", "runtimes.value_index"):
        monkeypatch.setattr(sys.modules[f"quorum.{module}"], "unicodedata", Spy, raising=False)
    monkeypatch.setattr(sys.modules["quorum.tasks.normalise"], "unicodedata", Spy, raising=False)
    uses = {
        "evidence": lambda: Text(hostile),
        "catalogue": lambda: _Folded(hostile),
        "parts": lambda: find_part([hostile, f"{hostile} and more"]),
        "text": lambda: text(hostile),
        "measure": lambda: measure(hostile),
    }
    for name, use in uses.items():
        given.clear()
        use()
        assert given, name
        assert max(map(longest_run, given)) <= 2 * MOST, name


def test_marks_are_left_out_from_the_31st_on() -> None:
    assert composed("e" + "\u0316" * 31 + "x") == "e" + "\u0316" * 30 + "x"
    assert composed("e" + "\u0316" * 30 + "x") == "e" + "\u0316" * 30 + "x"
    assert fold("E" + "\u0301" * 40)[1] == "é" + "\u0301" * 29


@pytest.mark.parametrize(
    "string",
    [
        "Café",
        "cafe\u0301",
        "日本語の説明文" * 20,
        "\u2600\ufe0f" * 50,
        "가각" * 40,
        "\u0e01\u0e34\u0e48" * 40,
    ],
)
def test_texts_of_languages_are_composed_as_ever(string: str) -> None:
    for form in ("NFC", "NFKC"):
        assert composed(string, form) == unicodedata.normalize(form, string)
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", string).casefold())
    assert fold(string)[1] == folded


def test_every_character_that_is_a_mark_once_decomposed_counts_as_one() -> None:
    marks = [
        char
        for char in map(chr, itertools.chain(range(0x300, 0xD800), range(0xE000, 0x1F000)))
        if unicodedata.combining(unicodedata.normalize("NFKD", char)[0])
    ]
    assert len(marks) > 900
    for char in marks:
        assert len(composed("a" + char * 100 + "b", "NFC")) <= 2 + 3 * MAX_MARKS, hex(ord(char))
