# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import abstain, parse_answer
from quorum_contract import Status

CATALOGUE = Catalogue.of(
    [Attribute("color", values=("red", "blue")), Attribute("size", normaliser="measure")]
)
NAMES = ["brand", "color", "size"]
RIGHT = ["nike", "red", "30cm"]
ANSWER = {"brand": "Nike", "color": "Red", "size": "30 cm"}


def read(answer: str, names: list[str] = NAMES) -> list[str | Status]:
    """Values, or why there is none."""
    votes = parse_answer(CATALOGUE, names, answer)
    assert len(votes) == len(names)
    assert all(bool(value) == (status is Status.ANSWERED) for value, status, _ in votes)
    return [value or status for value, status, _ in votes]


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(ANSWER),
        json.dumps(ANSWER, indent=2),
        json.dumps(dict(reversed(ANSWER.items()))),
        "```json\n" + json.dumps(ANSWER) + "\n```",
        "```\n" + json.dumps(ANSWER, indent=1) + "\n```\nHope this helps!",
        "Sure! Here is the {JSON} you asked for:\n" + json.dumps(ANSWER) + " Let me know.",
        "{} " + json.dumps(ANSWER),
        json.dumps(ANSWER) + json.dumps({"brand": "Adidas"}),
        json.dumps({"Brand": "Nike", " COLOR ": "red", "Size": "30cm"}),
        json.dumps({"brand": ["Nike"], "color": ["red"], "size": ["30 cm"]}),
        "brand: Nike\ncolor: red\nsize: 30 cm",
        "- **Brand**: Nike\n- **Color**: red\n- **Size**: 30 cm\n",
        "Brand = Nike,\nColor = red,\nSize = 30 cm,",
        '{"brand": "Nike", "color": "red", "size": "30 cm",}',
        '{"brand": "Nike",\n "color": "red",\n "size": "30 cm"\n',
        "\ufeff" + json.dumps(ANSWER),
    ],
)
def test_readable_answers(answer: str) -> None:
    assert read(answer) == RIGHT


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"brand": "Nike", "color": "re', ["nike", Status.UNPARSABLE, Status.UNPARSABLE]),
        ('{"brand": "Nike", "color": "red"', ["nike", Status.UNPARSABLE, Status.UNPARSABLE]),
        ('{"brand": "Nike", "color": "red",', ["nike", "red", Status.UNPARSABLE]),
        ('{"brand": null, "color": null, "size": null}', ["n/a", "n/a", "n/a"]),
        ('{"brand": "", "color": "", "size": " "}', ["n/a", "n/a", "n/a"]),
        ('{"brand": 7, "color": "red", "size": 42.0}', ["7", "red", "42"]),
        ('{"brand": true, "color": {"main": "red"}, "size": [1, 2]}', [Status.UNPARSABLE] * 3),
        ('{"brand": "Nike", "color": "green", "size": "n/a"}', ["nike", Status.UNPARSABLE, "n/a"]),
        ('{"brand": "first", "brand": "last", "color": "red", "size": "1"}', ["last", "red", "1"]),
        ('{"brand": "N\\"i\\\\k\\u00e9", "color": "red"}', ['n"i\\ké', "red", Status.UNPARSABLE]),
        ('{"brand": "größe 🧦", "color": "blue"}', ["grösse 🧦", "blue", Status.UNPARSABLE]),
        ('{"brand": "\\ud800", "color": "blue"}', [Status.UNPARSABLE, "blue", Status.UNPARSABLE]),
        ('{"brand": "\\ud83e\\udde6", "color": "blue"}', ["🧦", "blue", Status.UNPARSABLE]),
        ('{"attributes": {"brand": "Nike", "color": "red"}}', [Status.UNPARSABLE] * 3),
        ("I cannot tell.", [Status.UNPARSABLE] * 3),
        ("", [Status.UNPARSABLE] * 3),
        ("[]", [Status.UNPARSABLE] * 3),
        ("null", [Status.UNPARSABLE] * 3),
        ('"brand"', [Status.UNPARSABLE] * 3),
    ],
)
def test_answers_with_faults(answer: str, expected: list[str | Status]) -> None:
    assert read(answer) == expected


@pytest.mark.parametrize(
    ("names", "answer", "expected"),
    [
        (["color"], {"Color": "blue", "color": "red", "COLOR": "blue"}, ["red"]),
        (["Brand", "color"], {"brand": "x", "Brand": "y", " Color ": "red"}, ["y", "red"]),
        (["shoe  size"], {"Shoe  Size": "7"}, ["7"]),
        (["color "], {"color": "red"}, ["red"]),
    ],
)
def test_the_exact_key_comes_first_then_one_that_reads_alike(
    names: list[str], answer: dict[str, str], expected: list[str]
) -> None:
    assert read(json.dumps(answer), names) == expected


def test_names_are_no_expressions() -> None:
    assert read("a.*(b): x\nab: y", ["a.*(b)"]) == ["x"]
    assert read("ab: y", ["a.*"]) == [Status.UNPARSABLE]


@pytest.mark.parametrize(
    "garbage",
    [
        "{" * 10_000,
        "[" * 10_000,
        '{"a":' * 2_000,
        '"' * 10_000,
        "\\" * 10_000,
        "9" * 10_000,
        '{"brand": ' + "9" * 9_990,
        "brand" + " " * 10_000,
        "brand" + ":" * 10_000,
        '"brand": "' + "\\u" * 5_000,
        "\x00" * 10_000,
        "* " * 5_000,
    ],
    ids=range(12),
)
def test_ten_kilobytes_of_garbage_are_abstentions(garbage: str) -> None:
    assert len(read(garbage)) == len(NAMES)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=200)
    | st.text(alphabet='{}[]":,\\ \nbrandcolsizeu0d8', max_size=120)
    | JSON_VALUES.map(json.dumps)
    | st.tuples(JSON_VALUES.map(json.dumps), st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
)
def test_any_text_gives_one_vote_per_attribute(answer: str) -> None:
    for vote in parse_answer(CATALOGUE, NAMES, answer):
        vote.value.encode("utf-8")
        assert bool(vote.value) == (vote.status is Status.ANSWERED)
        assert vote.status in (Status.ANSWERED, Status.UNPARSABLE)


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20)), st.integers(0, 3))
def test_json_is_read_as_the_catalogue_spells_it(answer: dict[str, str], indent: int) -> None:
    votes = parse_answer(CATALOGUE, NAMES, json.dumps(answer, indent=indent or None))
    for name, vote in zip(NAMES, votes, strict=True):
        expected = CATALOGUE.get(name).normalise(answer[name]) if name in answer else None
        assert vote.value == (expected or "")


def test_abstentions_name_their_reason() -> None:
    assert abstain(Status.TIMEOUT, 2) == [("", Status.TIMEOUT, None)] * 2
