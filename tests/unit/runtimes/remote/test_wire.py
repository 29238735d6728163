# SPDX-License-Identifier: Apache-2.0
"""Reading answers: events, the end of the object, log-probabilities, schemas that are kept or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.runtimes.base import Usage
from quorum.runtimes.remote.answer import MOST_AFTER_END, Answer
from quorum.runtimes.remote.closing import Closing
from quorum.runtimes.remote.conforms import conforms
from quorum.runtimes.remote.dialect import Dialect, Guidance
from quorum.runtimes.remote.sse import Events
from quorum.runtimes.remote.wire import read_chunk
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema

CATALOGUE = Catalogue.of(
    [
        Attribute("color", values=("red", "blue")),
        Attribute("brand"),
        Attribute("sizes", kind="value", many=True, values=("s", "m")),
    ]
)
SCHEMA = answer_schema(CATALOGUE, list(CATALOGUE.attributes))
JSON = st.recursive(
    st.one_of(st.text(), st.integers(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def cut(text: str, sizes: list[int]) -> list[str]:
    """A text in pieces of these sizes, the last as long as it takes."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    return [*pieces, text[at:]]


@given(JSON, st.text(alphabet='ab "\\\n'), st.text(), st.lists(st.integers(0, 7), max_size=40), st.booleans())
def test_the_end_of_the_object_is_found_however_it_is_cut(
    value: Any, before: str, after: str, sizes: list[int], is_indented: bool
) -> None:
    text = json.dumps({"a": value, "b": "}{"}, ensure_ascii=False, indent=2 if is_indented else None)
    closing, read = Closing(["a", "b"]), ""
    for piece in cut(before + text, sizes):
        assert not closing.is_complete
        read += piece
        closing.add(piece)
        assert closing.is_complete == (read == before + text)
        if closing.is_complete:
            break
    assert closing.add(after)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}', '{"a": 1, "b": "}', '{"a": {"b": 1}', "{a: 1, b: 2}", "} } }", '{"a": "\\"}'],
)
def test_another_object_or_half_of_one_is_not_the_end(text: str) -> None:
    assert not Closing(["a", "b"]).add(text)


def test_the_object_may_come_after_others() -> None:
    closing = Closing(["a"])
    assert not closing.add('{"question": 1} {broken} I say "{')
    assert not closing.add('} then {"a"')
    assert closing.add(": 2}")


EVENTS = st.lists(st.text(alphabet="ab{}: é\\", min_size=1, max_size=12).filter(lambda t: t == t.strip()))


@given(EVENTS, st.lists(st.integers(0, 9), max_size=60), st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_however_bytes_arrive(texts: list[str], sizes: list[int], end: str) -> None:
    stream = "".join(f": comment{end}data: {text}{end}{end}" for text in texts).encode()
    events, found, at = Events(), list[bytes](), 0
    for size in [*sizes, len(stream)]:
        found += events.add(stream[at : at + size])
        at += size
    assert [one.decode() for one in found] == texts


def test_the_end_of_a_stream_ends_its_last_event() -> None:
    events = Events()
    assert list(events.add(b"data: x")) == []
    assert list(events.end()) == [b"x"]


def test_an_endless_event_is_refused() -> None:
    events = Events(100)
    with pytest.raises(ValueError):
        for _ in range(100):
            list(events.add(b"data: " + b"x" * 10))


@pytest.mark.parametrize("line", [b"data:\n", b"data: x\n"])
def test_lines_that_end_no_event_are_bounded(line: bytes) -> None:
    events = Events(1000)
    with pytest.raises(ValueError):
        for _ in range(1000):
            list(events.add(line))


def test_many_events_are_not_one() -> None:
    events = Events(100)
    assert [data for _ in range(100) for data in events.add(b"data: x\n\n")] == [b"x"] * 100


def chunk(**choice: Any) -> Any:
    return read_chunk(json.dumps({"choices": [choice]}).encode())


def test_a_prompt_has_no_more_cached_tokens_than_tokens() -> None:
    chunk = read_chunk(b'{"usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 40}}')
    assert chunk.usage
    assert chunk.usage.read() == Usage(9, 0, 9)


def test_an_answer_of_chunks_has_scores_usage_and_an_end() -> None:
    answer = Answer(["a"])
    parts = ['{"a"', ': "gr', "ö"[:1], 'ße"}']
    for part in parts:
        tokens = [{"token": c, "logprob": -0.5} for c in part]
        answer.add(chunk(delta={"content": part}, logprobs={"content": tokens}))
    assert answer.is_complete
    answer.add(chunk(delta={}, finish_reason="stop"))
    answer.add(read_chunk(b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}'))
    found = answer.generated(True, 1)
    assert found.text == "".join(parts)
    assert list(found.ends) == list(range(1, len(found.text) + 1))
    assert found.log_probs == [-0.5] * len(found.text)
    assert found.usage == Usage(9, 4, 0)
    assert answer.generated(False, 1)[:3] == (found.text, (), ())


def test_tokens_may_be_parts_of_a_character() -> None:
    answer = Answer(["a"])
    tokens = [{"token": "?", "logprob": -1.0, "bytes": [byte]} for byte in "ö€".encode()]
    answer.add(chunk(delta={"content": "ö€"}, logprobs={"content": tokens}))
    assert list(answer.generated(True, 0).ends) == [0, 1, 1, 1, 2]


@pytest.mark.parametrize("tokens", [[{"token": "other"}], [{"token": "a", "bytes": [300]}], []])
def test_tokens_that_are_not_those_of_the_text_are_no_scores(tokens: list[dict[str, Any]]) -> None:
    answer = Answer(["a"])
    answer.add(chunk(delta={"content": "text"}, logprobs={"content": tokens}))
    assert answer.generated(True, 0).log_probs == ()


def test_an_llm_that_goes_on_is_left_alone() -> None:
    answer = Answer(["a"])
    answer.add(chunk(delta={"content": '{"a": 1}'}))
    for _ in range(MOST_AFTER_END):
        assert not answer.is_enough
        answer.add(chunk(delta={"content": "and so on"}))
    assert answer.is_enough
    usage = answer.generated(True, 77).usage
    assert usage is not None
    assert usage.prompt_tokens == 77
    assert usage.answer_tokens > 1


@pytest.mark.parametrize(
    "token",
    [{"token": ""}, {"token": "x" * 1000}, {"token": "", "bytes": [0] * 1000}],
    ids=["none", "text", "bytes"],
)
def test_scores_without_text_are_bounded(token: dict[str, Any]) -> None:
    answer, scores = Answer(["a"]), chunk(logprobs={"content": [token] * 100})
    with pytest.raises(ValueError, match="log-probabilities"):
        for _ in range(5000):
            answer.add(scores)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": 3}', b'{"choices": [{"delta": "x"}]}', b"\xff"])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_chunk(body)


def test_errors_are_read_and_null_is_none() -> None:
    assert read_chunk(b'{"error": {"message": "x"}}').problem == '{"message": "x"}'
    assert read_chunk(b'{"error": "x"}').problem == '"x"'
    assert read_chunk(b'{"error": null}').problem == read_chunk(b"{}").problem == ""


def test_unknown_fields_are_ignored() -> None:
    assert read_chunk(b'{"id": 3, "choices": [{"index": 0, "delta": {"role": "x"}}]}').choices


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"color": "red", "brand": "x", "sizes": ["s"]}', True),
        (' {"sizes": [], "color": "n/a", "brand": "x"}\n', True),
        ('{"color": "green", "brand": "x", "sizes": []}', False),
        ('{"color": "red", "brand": 3, "sizes": []}', False),
        ('{"color": "red", "brand": "x", "sizes": ["xl"]}', False),
        ('{"color": "red", "brand": "x"}', False),
        ('{"color": "red", "brand": "x", "sizes": [], "more": 1}', False),
        ('Sure! {"color": "red", "brand": "x", "sizes": []}', False),
        ("[]", False),
        ("", False),
    ],
)
def test_what_keeps_to_a_schema(text: str, fits: bool) -> None:
    assert conforms(text, SCHEMA) == fits


def test_a_server_that_ignores_schemas_is_found_out() -> None:
    dialect = Dialect()
    for _ in range(50):
        assert not dialect.answered('{"color": "red", "brand": "x", "sizes": []}', SCHEMA)
    assert [dialect.answered("color: red", SCHEMA) for _ in range(3)] == [False, False, True]
    assert dialect.guidance is Guidance.NONE
    assert "ignored" in dialect.form
    assert "response_format" not in dialect.fields(SCHEMA, 5, 0)


@pytest.mark.parametrize(("text", "is_found_out"), [('{"color": "re', False), ("", False), ("I think", True)])
def test_what_an_answer_that_was_cut_off_proves(text: str, is_found_out: bool) -> None:
    dialect = Dialect()
    assert [dialect.answered(text, SCHEMA, True) for _ in range(3)][-1] == is_found_out


def test_fields_are_taken_back_one_after_the_other() -> None:
    dialect = Dialect()
    known = dialect.fields(SCHEMA, 5, 0)
    assert known["max_tokens"] == 5
    assert known["temperature"] == 0
    assert known["logprobs"]
    assert dialect.refuses("'temperature' does not support 0 with this model") == "temperature"
    assert dialect.refuses("Unsupported 'max_tokens'. Use 'max_completion_tokens' instead.") == "max_tokens"
    assert dialect.fields(SCHEMA, 5, 0)["max_completion_tokens"] == 5
    assert dialect.refuses("logprobs are not available") == "logprobs"
    assert dialect.offers_scores is False
    assert dialect.refuses("maximum context length exceeded, reduce the length") == ""
    for guidance in (Guidance.SIMPLE_SCHEMA, Guidance.OBJECT, Guidance.NONE):
        assert dialect.refuses("Invalid schema for response_format 'answer'") == "response_format"
        assert dialect.guidance is guidance
    assert dialect.refuses("response_format again") == ""
    assert dialect.version == 6
    assert set(dialect.fields(SCHEMA, 5, 0)) == {"max_completion_tokens", "seed", "stream_options"}


QUOTED = "a book: temperature, seed, logprobs, schema, max_completion_tokens instead of that"


def test_words_of_the_product_switch_nothing_off() -> None:
    dialect = Dialect()
    assert dialect.refuses(f"invalid input not supported: {QUOTED}", QUOTED) == ""
    assert dialect.refuses("invalid input: \\ntemperature\\tSEED", "x\ntemperature\tseed") == ""
    assert dialect.refuses(f"seed and response_format, in {QUOTED}", QUOTED) == "response_format"
    assert (dialect.version, dialect.dropped) == (1, set())


@pytest.mark.parametrize(
    ("param", "changed"),
    [
        ("seed", "seed"),
        ("response_format.json_schema", "response_format"),
        ("max_tokens", "max_tokens"),
        ("messages", ""),
    ],
)
def test_what_an_error_names_as_its_parameter_counts_alone(param: str, changed: str) -> None:
    error = json.dumps({"error": {"message": f"{QUOTED} {param}", "param": param}})
    assert Dialect().refuses(error, QUOTED) == changed
    assert Dialect().refuses(json.dumps({"message": f"logprobs? {param}", "param": param})) == (
        changed if param != "max_tokens" else ""
    )


def test_answers_that_keep_to_the_schema_forgive_those_that_did_not() -> None:
    dialect = Dialect()
    for _ in range(9):
        assert not dialect.answered("color: red", SCHEMA)
        assert not dialect.answered("color: red", SCHEMA)
        assert not dialect.answered('{"color": "red", "brand": "x", "sizes": []}', SCHEMA)
    assert dialect.guidance is Guidance.SCHEMA


def test_a_schema_without_lengths() -> None:
    dialect = Dialect(Guidance.SIMPLE_SCHEMA)
    text = json.dumps(dialect.fields(SCHEMA, 5, 0))
    assert "maxLength" not in text
    assert "maxItems" not in text
    assert '"enum": ["red", "blue", "n/a"]' in text
    assert "additionalProperties" in text
