# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quorum.tasks.normalise import NORMALISERS, is_not_given, measure, number, text

WILD = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="0123456789.,xX×* \"'mMkKgGcinchesS%µ-;:n/a\u00a0İß№½", max_size=24),
)


@pytest.mark.parametrize("name", NORMALISERS)
@given(value=WILD)
@example(value="1..0")
@example(value="1,0,000")
@example(value="İ")
@example(value="1 000 x 2,50 Inches.")
@example(value='0 ;" ')
def test_a_normalised_value_stays_as_it_is(name: str, value: str) -> None:
    once = NORMALISERS[name](value)
    assert NORMALISERS[name](once) == once


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (" Nike  AIR ", "nike air"),
        ("'Nike'", "nike"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁt", "fit"),
        ("Ｎｉｋｅ", "nike"),
        ("a\u00a0b", "a b"),
        ("red.", "red"),
        ("3.5", "3.5"),
        ("", ""),
    ],
)
def test_text(raw: str, expected: str) -> None:
    assert text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("1,500", "1500"),
        ("1,234,567", "1234567"),
        ("9,50", "9.5"),
        ("9.50", "9.5"),
        ("9.500", "9.5"),
        ("1.250", "1.25"),
        ("42.0", "42"),
        ("42.00", "42"),
        ("100", "100"),
        ("0.05", "0.05"),
        ("10.10", "10.1"),
        ("10 X 20", "10x20"),
        ("10 × 20", "10x20"),
        ("size 42", "size 42"),
        ("1.0.0", "1"),
    ],
)
def test_number(raw: str, expected: str) -> None:
    assert number(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("1,5 Kilograms", "1.5kg"),
        ('10 x 20"', "10x20in"),
        ("10 inches", "10in"),
        ("10in", "10in"),
        ("30 cm", "30cm"),
        ("30 Centimetres", "30cm"),
        ("2 lbs", "2lb"),
        ("5 grams.", "5g"),
        ("5 grammar", "5grammar"),
        ("100 %", "100%"),
        ("XL", "xl"),
        ("42", "42"),
        ("12.50 OZ", "12.5oz"),
        ("1,000 ml", "1000ml"),
    ],
)
def test_measure(raw: str, expected: str) -> None:
    assert measure(raw) == expected


@given(WILD)
def test_exact_changes_nothing(value: str) -> None:
    assert NORMALISERS["exact"](value) == value


@pytest.mark.parametrize("value", ["n/a", "N/A", " None ", "unknown.", "", "'not specified'", "NULL"])
def test_ways_to_say_not_given(value: str) -> None:
    assert is_not_given(value)


@pytest.mark.parametrize("value", ["no", "nano", "0", "-", "not red"])
def test_values_that_are_given(value: str) -> None:
    assert not is_not_given(value)
