# SPDX-License-Identifier: Apache-2.0
"""Answers of an LLM that was tricked, or broke down: their votes, and the work that they cost."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from quorum.tasks import fragments, parse
from quorum.tasks.attribute import MAX_VALUE_CHARS, Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.normalise import NORMALISERS
from quorum.tasks.parse import MAX_ANSWER_CHARS, parse_answer
from quorum_contract import Status

NAMES = ("brand", "color", "size")
CATALOGUE = Catalogue.of(
    [
        Attribute("color", values=("red", "blue")),
        Attribute("size", normaliser="measure"),
        Attribute("code", normaliser="exact"),
    ]
)
ANSWER = '{"brand": "Nike", "color": "red", "size": "30 cm"}'
ECHO = '{"brand": "the maker", "color": "blue", "size": "its length"}'
RIGHT = ["nike", "red", "30cm"]
NONE = Status.UNPARSABLE
FUZZED = 100_000 if os.environ.get("QUORUM_LONG") else 2_000


def read(answer: str, names: Sequence[str] = NAMES) -> list[str | Status]:
    """Values, or why there is none; the same with scores, each of which is of the value's own text."""
    ends = range(1, len(answer) + 1)
    votes = parse_answer(CATALOGUE, names, answer, ends, [-1.0] * len(answer))
    assert [vote[:2] for vote in votes] == [vote[:2] for vote in parse_answer(CATALOGUE, names, answer)]
    assert len(votes) == len(names)
    for vote in votes:
        assert bool(vote.value) == (vote.status is Status.ANSWERED)
        assert vote.status in (Status.ANSWERED, Status.UNPARSABLE)
        vote.value.encode()
    return [value or status for value, status, _ in votes]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ECHO + "\n" + ANSWER, RIGHT),
        (ECHO + " and, in the end, " + ANSWER + ' {"brand": "no"} {}', RIGHT),
        ('{"thought": "a {brand}"} ' + ANSWER, RIGHT),
        ('{"type": "object", "properties": {"brand": {}, "color": {}, "size": {}}}' + ANSWER, RIGHT),
        ("Fill {brand}, {color: \n{ " + ANSWER, RIGHT),
        ("{{{{" + ANSWER + "}}}}", RIGHT),
        ('{"brand": "x"} {"brand": "Nike", "color": "red", "size": 30,', ["nike", "red", "30"]),
        ('{"brand": "x", "color": "blue"} {"brand": "Nike", "co', ["x", "blue", NONE]),
        # Keys of a nested object are not the answer's, however the object around it is broken.
        ('{"color": {"brand": "red"}, "size": "4",}', [NONE, NONE, "4"]),
        ('{"color": {"brand": "red", "size": "4"', [NONE, NONE, NONE]),
        ('{"o": [{"brand": "x"}, {"brand": "y", "color": "red"}], "size": "4", "color', [NONE, NONE, "4"]),
        ('{"o": [{"brand": "x"}, {"brand": "y", "color', [NONE] * 3),
        ('{"brand": "x", "color": "bl\n' + ANSWER, RIGHT),
        ('{"brand": "x", "o": oops} so ' + ANSWER, RIGHT),
        # A string without an end holds no other value.
        ('{"brand": "Nike, "color": "red", "size": "4"}', [NONE, "red", "4"]),
        ('{"brand": "Nike", "color: "red", "size": "4"}', ["nike", NONE, "4"]),
        ('{"brand": "Nike\\", "color": "red", "size": "4"}', [NONE, "red", "4"]),
        # A value that was cut off is none, not "n/a".
        ('{\n  "brand": ', [NONE] * 3),
        ('{"brand": "New Bal', [NONE] * 3),
        ('{\n  "brand": "New Bal', [NONE] * 3),
        ('"brand": "New Bal', [NONE] * 3),
        ("brand: Nike\ncolor: ", ["nike", NONE, NONE]),
        # A label without a value does not take the next one's.
        ("brand:\ncolor: red\nsize: 4", [NONE, "red", "4"]),
        ("brand:\n\nNike\ncolor: red", ["nike", "red", NONE]),
        ("Brand: Nike, Color: red; size = 30 cm", RIGHT),
        ("A note: x, color: red\nits brand: Nike", [NONE] * 3),
        ("`" * 3 + "json\n" + "`" * 3 + "json\n" + ANSWER + "\n" + "`" * 6, RIGHT),
        ('{"brand": "a", "brand": "b", "brand": "Nike", "color": "red", "size": "30cm"}', RIGHT),
        ('{"brand": NaN, "color": Infinity, "size": 1e999}', [NONE] * 3),
        ('{"brand": ' + "9" * 5_000 + ', "color": "red", "size": "4"}', [NONE, "red", "4"]),
        ('{"brand": "\ud800", "color": "red", "size": "\\ud800 4"}', [NONE, "red", NONE]),
    ],
)
def test_no_attribute_gets_the_value_of_another_text(answer: str, expected: list[str | Status]) -> None:
    assert read(answer) == expected


@pytest.mark.parametrize(
    "mark", ["\0", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u2069", "\u200f", "\u061c"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_control_characters_and_directions_are_left_out(mark: str, ascii_only: bool) -> None:
    answer = {
        "brand": f"{mark}Ni{mark}ke",
        "color": f"r{mark}ed",
        "size": f"30 cm{mark}",
        "code": f"A{mark}-1",
    }
    assert read(json.dumps(answer, ensure_ascii=ascii_only), [*NAMES, "code"]) == [*RIGHT, "A-1"]
    assert read(f"brand: Ni{mark}ke\ncolor: red{mark}\nsize: 30 cm") == RIGHT


def test_line_ends_in_values_are_spaces() -> None:
    assert read('{"code": "A\\n1\\u2028B\\t2"}', ["code"]) == ["A 1 B 2"]
    assert read('{"brand": "Nike\nAir", "color": "red"}') == ["nike air", "red", NONE]


def test_long_open_values_are_refused_and_listed_ones_are_not() -> None:
    longest, listed = "x" * MAX_VALUE_CHARS, "y" * 3 * MAX_VALUE_CHARS
    catalogue = Catalogue.of(
        [Attribute("kind", values=("a", listed)), Attribute("same", synonyms={"y": listed})]
    )
    names = ("brand", "kind", "same")

    def values(*given: str) -> list[str]:
        return [
            vote.value
            for vote in parse_answer(catalogue, names, json.dumps(dict(zip(names, given, strict=True))))
        ]

    assert values(longest, f" {listed} ", listed) == [longest, listed, listed]
    assert values(longest + "x", listed + "y", listed + "y") == ["", "", ""]
    # A normal form may be longer than what it is of.
    assert values("\ufdfa" * MAX_VALUE_CHARS, "a", "y") == ["", "a", listed]


def test_what_is_behind_the_longest_answer_is_not_read() -> None:
    assert read(" " * (MAX_ANSWER_CHARS - len(ANSWER)) + ANSWER) == RIGHT
    assert read(" " * (MAX_ANSWER_CHARS - len(ANSWER) + 1) + ANSWER) == ["nike", "red", NONE]
    assert read(" " * MAX_ANSWER_CHARS + ANSWER) == [NONE] * 3
    assert read(ANSWER + "{" * 1_000_000) == RIGHT


HOSTILE = {
    "braces": lambda n: "{" * n,
    "keys": lambda n: '{"' * (n // 2),
    "open objects": lambda n: '{"a":1 ' * (n // 7),
    "nested objects": lambda n: '{"a":' * (n // 5),
    "nested lists": lambda n: '{"a":' + "[" * n,
    "broken strings": lambda n: '{"a":"\\u' * (n // 8),
    "quotes": lambda n: '"' * n,
    "escaped quotes": lambda n: '{"brand":"' + '\\"' * (n // 2),
    "backslashes": lambda n: '{"brand":"' + "\\" * n,
    "backticks": lambda n: "`" * n,
    "spaces": lambda n: "brand" + " " * n,
    "spaces in a value": lambda n: "brand: x" + " " * n + "x",
    "spaces behind a key": lambda n: '{"brand"' + " " * n + "x",
    "commas": lambda n: "brand" + "," * n,
    "spaces in a pair": lambda n: '{"brand"' + " " * (n // 2) + ":" + " " * (n // 2) + "x",
    "spaces after a pair": lambda n: '{"brand":1' + " " * n + "x",
    "labels": lambda n: ",brand:" * (n // 7),
    "colons": lambda n: ":," * (n // 2),
    "empty lines": lambda n: "brand:\n" * (n // 7),
    "marks": lambda n: "* " * (n // 2),
    "digits": lambda n: '{"brand": ' + "9" * n,
    "pairs": lambda n: '"a":1,' * (n // 6),
    "accents": lambda n: '{"brand": "' + "\u0301\u0316" * (n // 2) + '"}',
}


class CountingDecoder:
    """Counts the characters that a decoder may look at: to the end of the value, or of the text."""

    def __init__(self, decoder: json.JSONDecoder) -> None:
        self._decoder, self.characters = decoder, 0

    def raw_decode(self, text: str, start: int) -> tuple[Any, int]:
        self.characters += len(text) - start
        value, end = self._decoder.raw_decode(text, start)
        self.characters -= len(text) - end
        return value, end

    def decode(self, text: str) -> Any:
        self.characters += len(text)
        return self._decoder.decode(text)


def steps(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> int:
    """Calls of functions, and characters decoded."""
    decoder = CountingDecoder(fragments.DECODER)
    monkeypatch.setattr(parse, "DECODER", decoder)
    monkeypatch.setattr(fragments, "DECODER", decoder)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
        monkeypatch.undo()
    return calls + decoder.characters


@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_answer_takes_at_most_three_times_the_steps(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = (HOSTILE[kind](size) for size in (MAX_ANSWER_CHARS // 4, MAX_ANSWER_CHARS // 2))
    few = steps(monkeypatch, lambda: read(short))
    assert steps(monkeypatch, lambda: read(long)) <= 3 * few + 100


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hundred_thousand_characters_without_the_cut_are_read(kind: str) -> None:
    """An expression of the square of the length would not come to an end."""
    text = HOSTILE[kind](100_000)
    pairs = list(fragments.read_pairs(text))
    assert len({key for key, *_ in pairs}) <= 1
    assert len(list(fragments.read_lines(NAMES, text))) <= 1


@pytest.mark.parametrize("name", NORMALISERS)
@pytest.mark.parametrize(
    "value", ["1." + "0" * 100_000 + "1", "1." + "1" * 50_000 + "0" * 50_000 + "1", "1 " * 50_000]
)
def test_a_number_of_a_hundred_thousand_digits_is_normalised(name: str, value: str) -> None:
    assert len(NORMALISERS[name](value)) >= 50_000


def _written(draw: random.Random, values: dict[str, str], is_nested: bool) -> str:
    """An answer as JSON or lines; in a nested one a value is within an object whose key is another name."""
    style = draw.randrange(4)
    if style == 3:
        return "\n".join(f"- **{name.title()}**: {value}" for name, value in values.items())
    content: dict[str, object] = {**values}
    if is_nested:
        outer, inner = draw.sample(list(values), 2)
        content[outer] = draw.choice([{inner: values[outer]}, [{inner: values[outer]}, 1]])
    return json.dumps(content, ensure_ascii=bool(style % 2), indent=style // 2 or None)


def _mutated(draw: random.Random, text: str, kinds: int) -> str:
    at = draw.randrange(len(text) + 1)
    inserted = draw.choice(
        [
            "{",
            "}",
            "[",
            "]",
            '"',
            "\\",
            ":",
            ",",
            "```",
            "'",
            "\0",
            "\u202e",
            "\ud800",
            "\\u",
            " " * 50,
            "{" * 99,
            "{}",
            '\\"',
            "null",
        ]
    )
    match draw.randrange(kinds):
        case 0:
            return text[:at]
        case 1 if text[at : at + 1] not in ("\n", ":", "{", "["):
            return text[:at] + text[at + 1 :]
        case 2:
            return f"Sure {{here}}:\n```json\n{text}\n```\n{inserted}"
        case 3:
            return inserted + text
        case 4 | 5:
            return text[:at] + inserted + text[at:]
    return text


def test_mutated_answers_give_each_attribute_a_value_of_its_own_or_none() -> None:
    """Every value names its attribute, in each of the texts that an answer is made of."""
    draw = random.Random(15)
    names = ("brand", "model name", "code", "shoe size")
    answered = 0
    for _ in range(FUZZED):
        values = {name: f"{name[:2]}-{draw.choice('xyz')}{draw.choice(['', ' é', ' 7'])}" for name in names}
        is_nested = draw.random() < 0.2
        text = _written(draw, values, is_nested)
        if draw.random() < 0.3:
            text = _written(draw, {name: f"{name[:2]}-echo" for name in names}, is_nested) + "\n" + text
        for _ in range(draw.randrange(4)):
            text = _mutated(draw, text, 4 if is_nested else 6)
        for name, value in zip(names, read(text, names), strict=True):
            if isinstance(value, str):
                answered += 1
                others = [other for other in names if other != name and f"{other[:2]}-" in value]
                assert not others, (text, name, value)
    assert answered > 2 * FUZZED


def test_intact_answers_are_read_whole_behind_any_number_of_echoes() -> None:
    draw = random.Random(7)
    names = ["brand", "code", "shoe size"]
    for _ in range(200):
        values = {name: f"{name[:2]}-{draw.randrange(99)}" for name in draw.sample(names, 3)}
        echo = dict.fromkeys(draw.sample(names, draw.randrange(1, 4)), "echo")
        echoes = "".join(f" {{key}} {json.dumps(echo)}\n" for _ in range(draw.randrange(4)))
        expected = [values[name] for name in names]
        assert read(echoes + json.dumps(values, indent=draw.choice([None, 1])), names) == expected
        lines = [f"{name}{draw.choice(':=')} {value}" for name, value in values.items()]
        assert read(draw.choice([", ", "; ", "\n", " |\n| "]).join(lines), names) == expected
        empty = draw.randrange(3)
        name, lines[empty] = list(values)[empty], f"{list(values)[empty]}: "
        expected_left = [NONE if other == name else values[other] for other in names]
        assert read("\n".join(lines), names) == expected_left
