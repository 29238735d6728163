# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.tasks.attribute import Attribute, CatalogueError
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.normalise import NORMALISERS

COLOR = Attribute("color", "Which colour?", ("Red", "Dark Blue"), {"crimson": "Red", "NAVY": "Dark Blue"})
SIZE = Attribute("size", normaliser="measure", synonyms={"large": "L"})
CATALOGUE = Catalogue.of([COLOR, SIZE])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Red", "Red"),
        (" red. ", "Red"),
        ("CRIMSON", "Red"),
        ("navy", "Dark Blue"),
        ("dark  blue", "Dark Blue"),
        ("n/a", "n/a"),
        ("Unknown", "n/a"),
        ("", "n/a"),
        ("green", None),
        ("redd", None),
    ],
)
def test_a_closed_attribute_answers_only_its_values(raw: str, expected: str | None) -> None:
    assert COLOR.is_closed
    assert COLOR.normalise(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"), [("30 cm", "30cm"), ("Large", "L"), ("none", "n/a"), ("whatever", "whatever")]
)
def test_an_open_attribute_answers_anything(raw: str, expected: str) -> None:
    assert not SIZE.is_closed
    assert SIZE.normalise(raw) == expected


def test_a_value_that_reads_like_not_given_is_a_value_when_listed() -> None:
    lining = Attribute("lining", values=("none", "fleece"))
    assert lining.normalise("None") == "none"
    assert lining.normalise("n/a") == "n/a"


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("raw", ["n/a", "N/A", "None", " not specified ", ""])
def test_every_normaliser_knows_words_for_not_given(normaliser: str, raw: str) -> None:
    assert Attribute("code", normaliser=normaliser).normalise(raw) == "n/a"


def test_exact_attributes_keep_values_as_they_are_and_words_for_not_given_that_they_list() -> None:
    exact = Attribute("code", synonyms={"NA": "NA"}, normaliser="exact")
    assert exact.normalise(" x") == " x"
    assert exact.normalise("NA") == "NA"
    assert exact.normalise("N/A") == "n/a"


def test_what_a_synonym_stands_for_is_spelled_as_itself() -> None:
    """The member that says L agrees with the one that says large."""
    assert SIZE.normalise("L") == SIZE.normalise("l") == SIZE.normalise("large") == "L"


@given(st.text(max_size=30) | st.sampled_from(["Large", "l", "L ", "crimson", "DARK BLUE"]))
def test_a_canonical_value_is_its_own_spelling(raw: str) -> None:
    for attribute in (COLOR, SIZE, Attribute("open")):
        value = attribute.normalise(raw)
        assert value is None or attribute.normalise(value) == value


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Attribute("a", normaliser="upper"), ["'a'", "'upper'", "measure"]),
        (lambda: Attribute("a", values=("Red", "red")), ["'a'", "same"]),
        (
            lambda: Attribute("a", values=("red",), synonyms={"x": "blue"}),
            ["'a'", "'x'", "'blue'", "not a value"],
        ),
        (lambda: Attribute("a", values=("red", "n/a")), ["'a'", "n/a"]),
        (
            lambda: Attribute("a", values=("red", "blue"), synonyms={"Red": "blue"}),
            ["'a'", "'Red'", "'blue'"],
        ),
        (lambda: Attribute("a", values=("r", "b"), synonyms={"x": "r", "X": "b"}), ["'a'", "'X'"]),
        (lambda: Attribute("a", synonyms={"x": "y", "y": "z"}), ["'a'", "'y'", "'z'"]),
    ],
    ids=[
        "normaliser",
        "same values",
        "synonym of nothing",
        "n/a listed",
        "value as synonym",
        "two synonyms",
        "chain",
    ],
)
def test_contradictions_are_named(make, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CatalogueError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)


def test_unlisted_attributes_are_open_with_the_default_normaliser() -> None:
    catalogue = Catalogue.of([COLOR], "measure")
    assert catalogue.get("length").normalise("5 METERS") == "5m"
    assert catalogue.value_counts() == {"color": 3}


CHANGES = {
    "a value more": {"values": ("Red", "Dark Blue", "green")},
    "a value spelled otherwise": {"values": ("red", "Dark Blue"), "synonyms": {"NAVY": "Dark Blue"}},
    "a synonym more": {"synonyms": {**COLOR.synonyms, "sky": "Dark Blue"}},
    "a synonym elsewhere": {"synonyms": {**COLOR.synonyms, "NAVY": "Red"}},
    "another normaliser": {"normaliser": "measure"},
    "another name": {"name": "colour"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_changes_with_the_meaning(change: str) -> None:
    other = Attribute(**{**spec(COLOR), **CHANGES[change]})  # type: ignore[arg-type]
    changed = Catalogue.of([other, SIZE])
    assert changed.hash != CATALOGUE.hash
    assert {n for n, h in changed.hashes.items() if CATALOGUE.hashes.get(n) != h} == {other.name}


def spec(attribute: Attribute) -> dict[str, object]:
    return {k: getattr(attribute, k) for k in ("name", "question", "values", "synonyms", "normaliser")}


def test_the_hash_does_not_change_with_wording_or_order() -> None:
    reworded = replace(COLOR, question="Say the colour", values=COLOR.values[::-1])
    assert Catalogue.of([SIZE, reworded]).hash == CATALOGUE.hash
    assert Catalogue.of([COLOR, SIZE], "number").hash != CATALOGUE.hash
    assert CATALOGUE.hash.startswith("sha256:")
    assert Catalogue.of([SIZE, reworded]).hashes == CATALOGUE.hashes
    outside = Catalogue.of([COLOR, SIZE], "number").hashes
    assert {n for n, h in outside.items() if CATALOGUE.hashes[n] != h} == {""}


def test_the_schema_has_the_attributes_in_the_order_asked() -> None:
    schema = answer_schema(CATALOGUE, ["size", "unheard", "color"])
    assert list(schema["properties"]) == schema["required"] == ["size", "unheard", "color"]
    assert schema["properties"]["color"]["enum"] == ["Red", "Dark Blue", "n/a"]
    assert schema["properties"]["unheard"]["minLength"] == 1
    assert schema["additionalProperties"] is False


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps(CATALOGUE.to_json()), encoding="utf-8")
    assert Catalogue.load(path) == CATALOGUE
    assert Catalogue.load(path).hash == CATALOGUE.hash


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"schema_version": 2}', '{"schema_version": 1}', "7", "[" * 50_000, "9" * 5000],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CatalogueError, match="catalogue"):
        Catalogue.load(path)
    with pytest.raises(CatalogueError, match="quorum render"):
        Catalogue.load(tmp_path / "nowhere.json")
    path.write_bytes(b"\xff")
    with pytest.raises(CatalogueError, match=r"catalogue\.json: .*utf-8"):
        Catalogue.load(path)
