# SPDX-License-Identifier: Apache-2.0
"""Scores of votes: which tokens belong to a value, in any spelling of an answer and any cut into tokens."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum.tasks.score import Span, score_of
from quorum_contract import Status

NAMES = ("brand", "color", "size")
CATALOGUE = Catalogue.of(
    [Attribute("brand", normaliser="exact"), Attribute("color", values=("red", "blue")), Attribute("size")]
)


def scores(answer: str, ends: Sequence[int], log_probs: Sequence[float]) -> list[float | None]:
    votes = parse_answer(CATALOGUE, NAMES, answer, ends, log_probs)
    plain = parse_answer(CATALOGUE, NAMES, answer)
    assert [vote[:2] for vote in votes] == [vote[:2] for vote in plain]
    assert all(vote.score is None for vote in plain)
    assert all(vote.score is None or vote.status is Status.ANSWERED for vote in votes)
    return [vote.score for vote in votes]


def marked(answer: str) -> tuple[str, list[str]]:
    """The answer without its marks, and what is between them, in the order of the names: ``‹value"›``."""
    return answer.replace("‹", "").replace("›", ""), [part.split("›")[0] for part in answer.split("‹")[1:]]


def single(answer: str) -> list[str | None]:
    """The text that each value's score is of, with one token per character, which its score names."""
    ends = list(range(1, len(answer) + 1))
    found: list[str | None] = []
    for place in range(len(NAMES)):
        chosen = [
            index
            for index in range(len(answer))
            if scores(answer, ends, [-1.0 if i == index else 0.0 for i in range(len(answer))])[place]
        ]
        assert chosen == list(range(chosen[0], chosen[-1] + 1)) if chosen else True
        found.append("".join(answer[index] for index in chosen) if chosen else None)
    return found


@pytest.mark.parametrize(
    "answer",
    [
        '{"brand":"‹Nike"›,"color":"‹red"›,"size":"‹42"›}',
        '{ "brand" : "‹Ni\\"k\\u00e9\\\\"›,\n\t"color" :"‹red"› , "size": "‹"›}',
        '{"brand":"x","color":"blue","brand":"‹y"›,"color":"‹red"›,"size":"‹ 4 "›}',
        '{"BRAND":"x","brand":"‹y"›,"Color":"x","COLOR ":"‹red"›,"Brand":"z"," SIZE ":"‹8"›,"o":[{"a":""}]}',
        '```json\n{"brand":"‹größe 👟"›,"color":["‹red"›],"size": [ ‹4.20› ]}\n``` and {"brand":"no"}',
        'Sure {here}: {"brand":"‹Nike"›,"color":"‹red"›,"size":"‹4"›}',
        '{} {"brand":‹null›,"color":‹null›,"size":‹-3e2›}',
        '{"brand":"‹Nike"›, "color":"‹red"›, "size": ‹12›, "no": "cut o',
        '{"brand":"no","brand":"‹Ni\\"ke"›,\n"Color":"‹red"›,"size":‹null›,"x":"',
        "brand: ‹Nike Air›\nColor = ‹red›,\n- **size**: `‹42›`\n",
        'Brand: "‹Nike"›\ncolor: \'‹red\'›\nsize: ‹4 "x›\n',
    ],
    ids=range(11),
)
def test_a_score_is_of_the_value_as_it_is_read_and_its_closing_quote(answer: str) -> None:
    text, expected = marked(answer)
    assert single(text) == expected


def test_values_that_are_no_votes_have_no_score() -> None:
    assert single('{"brand":true,"color":"green","size":{"a":1}}') == [None, None, None]
    assert single('{"brand":[1,2],"color":[],"size":[[1]]}') == [None, None, None]
    assert single("nothing at all") == [None, None, None]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (['{"', "brand", '":"', "Nike", '","', "color", '":"', "red", '"}'], [4 + 5, 8 + 9]),
        (['{"', "brand", '":', '"Nike', '",', '"color"', ":", '"red"', "}"], [4 + 5, 8]),
        (['{"brand":"Nike","color":"red"}'], [1, 1]),
        (['{"brand":"Ni', 'ke","color":"re', 'd"}'], [1 + 2, 2 + 3]),
        (['{"brand":"', "", "Nike", "", '"', "", ',"color":"red"', "", "}"], [2 + 3 + 4 + 5, 7]),
    ],
)
def test_tokens_that_hold_more_than_the_value_count_whole(tokens: list[str], expected: list[int]) -> None:
    ends = [len("".join(tokens[: i + 1])) for i in range(len(tokens))]
    log_probs = [-float(number) for number in range(1, len(tokens) + 1)]
    assert scores("".join(tokens), ends, log_probs)[:2] == [-float(number) for number in expected]


@pytest.mark.parametrize(
    ("ends", "log_probs"),
    [
        ([10, 15, 20], [0.0, math.nan, 0.0]),
        ([10, 15, 20], [0.0, -math.inf, 0.0]),
        ([10, 15, 20], [0.0, -1e39, 0.0]),
        ([10, 15, 20], [0.0, math.inf, 0.0]),
        ([10, 15, 20], [0.0, 0.5, 0.0]),
        ([10, 15], [0.0, -1.0, 0.0]),
        ([10, 12], [0.0, -1.0]),
        ([], [-1.0]),
    ],
)
def test_what_is_not_known_has_no_score(ends: list[int], log_probs: list[float]) -> None:
    assert score_of(Span(10, 15), ends, log_probs) is None


def test_scores_are_rounded_to_float32_and_never_above_zero() -> None:
    score = score_of(Span(0, 3), [1, 2, 3], [-0.1, -0.2, -0.4])
    assert score == struct.unpack("f", struct.pack("f", -0.1 - 0.2 - 0.4))[0] != -0.1 - 0.2 - 0.4
    assert score_of(Span(0, 3), [3], [1e-9]) == 0.0
    assert score_of(Span(0, 3), [3], [-0.0]) == 0.0
    assert score_of(Span(3, 3), [3, 5], [-1.0, -1.0]) is None


def reference(span: Span, ends: Sequence[int], log_probs: Sequence[float]) -> float | None:
    """The plain loop."""
    if not ends or span.end > ends[-1]:
        return None
    chosen, start = [], 0
    for end, log_prob in zip(ends, log_probs, strict=True):
        has_any = start < end and start < span.end and end > span.start
        begins_one = start == end and span.start <= start < span.end
        if has_any or begins_one:
            chosen.append(log_prob)
        start = end
    if not chosen or any(math.isnan(one) for one in chosen):
        return None
    return sum(chosen)


STEPS = st.lists(st.tuples(st.integers(0, 4), st.floats(-50, -0.01)), min_size=1, max_size=30)


@given(STEPS, st.integers(0, 12), st.integers(1, 20))
def test_the_sum_is_that_of_a_plain_loop(steps: list[tuple[int, float]], start: int, length: int) -> None:
    ends = [sum(step for step, _ in steps[: i + 1]) for i in range(len(steps))]
    log_probs = [log_prob for _, log_prob in steps]
    span = Span(start, start + length)
    expected = reference(span, ends, log_probs)
    found = score_of(span, ends, log_probs)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-12))


TEXT = (
    st.text(max_size=8)
    | st.text(alphabet='"\\/é👟日:,{}[] \n', max_size=6)
    | st.sampled_from(["red", "blue", "n/a"])
)
PAIRS = st.lists(
    st.tuples(st.sampled_from([*NAMES, "Brand", " SIZE", "other"]), TEXT | st.none() | st.integers(-99, 99)),
    min_size=1,
    max_size=6,
)


@given(
    PAIRS,
    st.booleans(),
    st.sampled_from(["", " ", "\n  "]),
    st.integers(0, 80),
    st.randoms(use_true_random=False),
)
def test_any_answer_in_any_tokens_has_the_scores_of_a_plain_loop(
    pairs: list[tuple[str, object]], ascii_only: bool, space: str, cut: int, random: object
) -> None:
    """Values with escapes, repeated keys, cut answers, tokens cut between the bytes of a character."""
    text, spans = "{", []
    for number, (key, value) in enumerate(pairs):
        written = json.dumps(value, ensure_ascii=ascii_only)
        text += ("," if number else "") + space + json.dumps(key) + ":" + space
        start = len(text) + isinstance(value, str)
        text += written
        spans.append((key, Span(start, len(text))))
    text += space + "}"
    # Cut, but not within the part that the votes are from: what is complete counts.
    text = text[: max(1, len(text) - cut)] if cut > 40 else text
    try:
        complete = [(key, span) for key, span in spans if json.loads(text) is not None]
    except ValueError:
        complete = [
            (key, span)
            for key, span in spans
            if text[span.end :].lstrip(" \n")[:1] == "," or text[span.end : span.end + 1] == "\n"
        ]
    data = text.encode("utf-8", "surrogatepass")
    borders = sorted({random.randint(0, len(data)) for _ in range(random.randint(0, 20))} | {len(data)})  # type: ignore[attr-defined]
    ends = [len(data[:border].decode("utf-8", "ignore")) for border in borders]
    log_probs = [-random.random() for _ in borders]  # type: ignore[attr-defined]
    exact = dict(complete)
    folded = {key.strip().casefold(): exact[key] for key in dict.fromkeys(key for key, _ in complete)}
    votes = parse_answer(CATALOGUE, NAMES, text, ends, log_probs)
    for name, vote in zip(NAMES, votes, strict=True):
        span = exact.get(name, folded.get(name))
        if not complete:
            # Read as lines, if at all.
            continue
        if vote.status is not Status.ANSWERED or span is None:
            assert vote.score is None
            continue
        expected = reference(span, ends, log_probs)
        assert expected is not None
        assert vote.score == pytest.approx(expected, rel=1e-6)
