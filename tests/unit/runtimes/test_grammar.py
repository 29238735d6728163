# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.runtimes.grammar import answer_pattern
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import MAX_OPEN_VALUE_CHARS, answer_schema

ODD = ['a"b', "c\\d", "e/f", "g|h(i)*", "größe 🧦", "[x]{1}^$.?+-", "new\nline", "%d"]


def pattern_of(*attributes: Attribute) -> re.Pattern[str]:
    schema = answer_schema(Catalogue.of(attributes), [a.name for a in attributes])
    return re.compile(answer_pattern(json.dumps(schema, ensure_ascii=False)))


def compact(answer: object) -> str:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def test_every_allowed_answer_matches_and_nothing_near_it() -> None:
    color, odd = Attribute("color", values=("red", "blue")), Attribute('o"d/d', values=tuple(ODD))
    pattern = pattern_of(color, odd)
    for first, second in product(["red", "blue", "n/a"], [*ODD, "n/a"]):
        answer = {"color": first, 'o"d/d': second}
        assert pattern.fullmatch(compact(answer)), answer
        for wrong in (
            json.dumps(answer, ensure_ascii=False),
            compact(dict(reversed(answer.items()))),
            compact({"color": first}),
            compact({**answer, "more": "x"}),
            compact({**answer, "color": "green"}),
            compact({**answer, "color": first.upper()}),
            compact({**answer, "color": None}),
            compact({**answer, "color": [first]}),
            compact(answer) + " ",
            compact(answer)[:-1],
            "",
        ):
            assert not pattern.fullmatch(wrong), wrong


def test_there_is_one_spelling_of_not_given() -> None:
    pattern = pattern_of(Attribute("color", values=("red",)))
    assert pattern.fullmatch('{"color":"n/a"}')
    assert not pattern.fullmatch('{"color":"n\\/a"}')


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=MAX_OPEN_VALUE_CHARS
    )
)
def test_open_values_match_and_read_back(value: str) -> None:
    pattern = pattern_of(Attribute("brand"))
    assert pattern.fullmatch(compact({"brand": value}))


@pytest.mark.parametrize(
    "answer",
    [
        '{"brand":""}',
        '{"brand":"a"b"}',
        '{"brand":"a\nb"}',
        '{"brand":"\\x"}',
        '{"brand":"\\"}',
        '{"brand":7}',
    ],
)
def test_open_values_are_json_strings(answer: str) -> None:
    assert not pattern_of(Attribute("brand")).fullmatch(answer)


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
        min_size=1, max_size=4, unique=True,
    ),
    st.data(),
)  # fmt: skip
def test_what_matches_is_json_of_the_schema(names: list[str], data: st.DataObject) -> None:
    attributes = [
        Attribute(name, values=("a", 'q"', "sl/ash\\") if i % 2 else (), normaliser="exact")
        for i, name in enumerate(names)
    ]
    pattern = pattern_of(*attributes)
    chosen = {
        a.name: data.draw(st.sampled_from([*a.values, "n/a"])) if a.is_closed else "x" for a in attributes
    }
    assert pattern.fullmatch(compact(chosen))
    assert json.loads(compact(chosen)) == chosen
