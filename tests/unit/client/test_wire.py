# SPDX-License-Identifier: Apache-2.0
"""Requests refused before they are sent, and answers that are not what the contract says."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from quorum_client import Extraction, InvalidRequest, ProtocolError, Status, _wire


def build(text: Any = "a shoe", attributes: Any = ("brand",), category: Any = "", **more: Any) -> Any:
    settings = {"channel": "quorum", "request_id": "r1", "timeout_us": 1_000} | more
    return _wire.request(text, attributes, category, **settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": b"bytes"}, "TEXT: a bytes"),
        ({"text": None}, "TEXT: a NoneType"),
        ({"text": "\ud800"}, "TEXT: a lone surrogate at character 0"),
        ({"text": "é" * 16_385}, "TEXT: 32770 bytes"),
        ({"text": ""}, "TEXT: empty"),
        ({"text": " \n\t\u00a0"}, "TEXT: empty"),
        ({"category": 3}, "CATEGORY: a int"),
        ({"category": "c" * 257}, "CATEGORY: 257 bytes"),
        ({"attributes": "brand"}, "ATTRIBUTES: a str"),
        ({"attributes": {"brand"}}, "ATTRIBUTES: a set"),
        ({"attributes": []}, "ATTRIBUTES: empty"),
        ({"attributes": [f"a{i}" for i in range(65)]}, "65 names, the limit is 64"),
        ({"attributes": ["a", "b", "a"]}, r"ATTRIBUTES\[2\]: 'a' a second time"),
        ({"attributes": ["a", " "]}, r"ATTRIBUTES\[1\]: empty"),
        ({"attributes": ["a", 1]}, r"ATTRIBUTES\[1\]: a int"),
        ({"attributes": ["a" * 129]}, "129 bytes"),
        ({"attributes": ["a\x00"]}, "control characters"),
        ({"channel": ""}, "channel: ''"),
        ({"request_id": "i" * 129}, "request_id: 129 bytes"),
    ],
)
def test_refused_before_the_wire(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        build(**arguments)


def test_limits_are_inclusive() -> None:
    names = [f"{i:02}" + "n" * 126 for i in range(64)]
    request = build(text="t" * 32_768, attributes=names, category="c" * 256)
    assert [list(tensor.shape) for tensor in request.inputs] == [[1], [1], [64]]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 86_401, None, "5", True])
def test_a_deadline_must_be_a_sensible_number(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match="timeout_s"):
        _wire.check_timeout(timeout)


@pytest.mark.parametrize(("timeout_s", "expected"), [(30.0, 29_750_000), (1.0, 900_000), (1e-7, 1)])
def test_the_server_hears_of_an_earlier_deadline(timeout_s: float, expected: int) -> None:
    assert build(timeout_us=_wire.server_timeout_us(timeout_s)).parameters["timeout"].int64_param == expected


@pytest.mark.parametrize(("members_timeout_s", "expected"), [(0, 1), (0.5, 500_000), (60, 9_750_000)])
def test_members_can_be_given_less_time(members_timeout_s: float, expected: int) -> None:
    assert _wire.server_timeout_us(10.0, members_timeout_s) == expected


@pytest.mark.parametrize("members_timeout_s", [-1, float("nan"), "1", True])
def test_members_cannot_be_given_no_time_at_all(members_timeout_s: Any) -> None:
    with pytest.raises(InvalidRequest, match="members_timeout_s"):
        _wire.server_timeout_us(10.0, members_timeout_s)


def answer(bend: Callable[[dict[str, list[Any]]], None] = lambda t: None, ident: str = "r1") -> Extraction:
    """Parse an answer to ``["colour", "size"]`` by members x, y, z, bent by the test."""
    strings = lambda *v: b"".join(struct.pack("<I", len(x)) + x for x in v)  # noqa: E731
    tensors: dict[str, list[Any]] = {
        "VALUES": ["BYTES", [2], strings("größe".encode(), b"")],
        "CONFIDENCE": ["FP32", [2], struct.pack("<2f", 0.5, 0.0)],
        "MEMBERS": ["BYTES", [3], strings(b"x", b"y", b"z")],
        "MEMBER_VALUES": ["BYTES", [3, 2], strings("größe".encode(), b"", b"n/a", b"", b"", b"")],
        "MEMBER_STATUS": ["INT32", [3, 2], struct.pack("<6i", 0, 1, 0, 4, 2, 99)],
        "MEMBER_SCORES": ["FP32", [3, 2], struct.pack("<6f", -0.5, -1.0, math.nan, -2.0, -3.0, -4.0)],
        "WEIGHTS_VERSION": ["INT64", [1], struct.pack("<q", 1 << 40)],
    }
    bend(tensors)
    message = pb.ModelInferResponse(model_name="quorum", id=ident)
    for name, (datatype, shape, raw) in tensors.items():
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(raw)
    return _wire.extraction(message, ["colour", "size"], "r1", 0.1)


def test_abstention_not_available_and_value_stay_distinct() -> None:
    found = answer()
    colour, size = found.answers
    assert (colour.attribute, colour.value, colour.confidence) == ("colour", "größe", 0.5)
    assert [(v.member, v.value, v.status) for v in colour.votes] == [
        ("x", "größe", Status.ANSWERED),
        ("y", "n/a", Status.ANSWERED),
        ("z", None, Status.OVERLOADED),
    ]
    assert (size.value, size.confidence) == (None, 0.0)
    assert [v.status for v in size.votes] == [Status.TIMEOUT, Status.UNPARSABLE, Status.ERROR]
    assert found.weights_version == 1 << 40
    assert found["size"] is size
    assert list(found) == ["colour", "size"]
    with pytest.raises(KeyError):
        found["brand"]


def test_results_are_equal_by_what_they_say_and_frozen() -> None:
    assert answer() == answer()
    assert hash(answer()) == hash(answer())
    with pytest.raises(AttributeError):
        answer().weights_version = 3  # type: ignore[misc]


def replace(name: str, index: int, value: Any) -> Callable[[dict[str, list[Any]]], None]:
    return lambda tensors: tensors[name].__setitem__(index, value)


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda t: t.pop("MEMBERS"), "no output MEMBERS"),
        (replace("CONFIDENCE", 0, "FP64"), "CONFIDENCE is FP64, expected FP32"),
        (replace("VALUES", 1, [3]), r"VALUES has shape \[3\], expected \[2\]"),
        (replace("MEMBER_STATUS", 1, [2, 3]), "MEMBER_STATUS has shape"),
        (replace("MEMBER_STATUS", 2, b"\0" * 23), "unpack requires a buffer of 24 bytes"),
        (replace("VALUES", 2, struct.pack("<I", 9) + b"short"), "VALUES ends within element 0"),
        (replace("VALUES", 2, b"\0\0"), "unpack_from requires"),
        (replace("VALUES", 2, struct.pack("<I", 1) + b"a"), "VALUES holds 1 elements, expected 2"),
        (replace("VALUES", 2, struct.pack("<I", 1) + b"\xff" + b"\0" * 4), "invalid start byte"),
        (replace("CONFIDENCE", 2, struct.pack("<2f", 0.5, 1.5)), r"not in \[0, 1\]"),
        (replace("CONFIDENCE", 2, struct.pack("<2f", 0.5, float("nan"))), r"not in \[0, 1\]"),
    ],
)
def test_a_wrong_answer_is_a_protocol_error(bend: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        answer(bend)
    assert caught.value.request_id == "r1"


def decided(
    codes: Any = (0, 2), kind: str = "INT32", shape: Any = None
) -> Callable[[dict[str, list[Any]]], None]:
    raw = struct.pack(f"<{len(codes)}i", *codes)
    return lambda tensors: tensors.update(DECISION_STATUS=[kind, shape or [len(codes)], raw])


def statuses(found: Extraction) -> list[str]:
    return [answer.status.name for answer in found.answers]


@pytest.mark.parametrize(
    ("code", "name"), [(1, "NO_ANSWER"), (2, "NO_QUORUM"), (99, "NO_ANSWER"), (0, "NO_ANSWER")]
)
def test_an_answer_says_why_it_has_no_value(code: int, name: str) -> None:
    assert statuses(answer(decided((0, code)))) == ["DECIDED", name]


@pytest.mark.parametrize(
    "bend",
    [
        lambda tensors: None,
        decided((0, 2, 2)),
        decided((0, 2), "FP32"),
        decided((0, 2), shape=[1, 2]),
        decided((0,), shape=[2]),
    ],
    ids=["an earlier server", "of three", "floats", "another shape", "too short"],
)
def test_without_a_sound_status_a_missing_value_means_no_answer(bend: Any) -> None:
    found = answer(bend)
    assert statuses(found) == ["DECIDED", "NO_ANSWER"]
    assert found.answers == answer().answers


def scores(found: Extraction) -> list[list[float | None]]:
    return [[vote.score for vote in answer.votes] for answer in found.answers]


def test_a_score_stands_at_the_vote_that_it_is_of_and_no_abstention_has_one() -> None:
    assert scores(answer()) == [[-0.5, None, None], [None, None, None]]


def test_an_older_server_sends_no_scores() -> None:
    found = answer(lambda tensors: tensors.pop("MEMBER_SCORES"))
    assert scores(found) == [[None] * 3] * 2
    assert [a.value for a in found.answers] == [a.value for a in answer().answers]


@pytest.mark.parametrize(
    ("number", "score"),
    [
        (-0.0, 0.0),
        (0.0005, 0.0),
        (0.002, None),
        (1.0, None),
        (math.inf, None),
        (-math.inf, None),
        (-3e38, struct.unpack("<f", struct.pack("<f", -3e38))[0]),
    ],
)
def test_what_no_log_probability_can_be_is_no_score(number: float, score: float | None) -> None:
    found = answer(replace("MEMBER_SCORES", 2, struct.pack("<6f", *[number] * 6)))
    assert scores(found)[0] == [score, score, None]
    assert str(scores(found)[0][0]) == str(score)


@pytest.mark.parametrize(("index", "value"), [(0, "FP64"), (1, [2, 3]), (1, [6]), (2, b"\0" * 20)])
def test_scores_that_make_no_sense_cost_no_answer(index: int, value: Any) -> None:
    assert scores(answer(replace("MEMBER_SCORES", index, value))) == [[None] * 3] * 2


def test_an_output_of_a_newer_server_is_ignored() -> None:
    assert answer(lambda t: t.update(MEMBER_MOODS=["BYTES", [7, 7, 7], b"\xff"])) == answer()


def test_the_answer_to_another_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="it carries the id 'r2', asked was 'r1'"):
        answer(ident="r2")


def used(
    rows: Any = ((1, 310, 12, 256, 0.25, 0.004), (0, 0, 0, 0, 0, 0), (1, math.nan, math.nan, 0, 1, math.nan)),
    cost: float = 0.004,
    **more: Any,
) -> Callable[[dict[str, list[Any]]], None]:
    numbers = [number for row in rows for number in row]
    tensors = {
        "MEMBER_USAGE": ["FP32", [len(rows), len(rows[0])], struct.pack(f"<{len(numbers)}f", *numbers)],
        "COST": ["FP32", [1], struct.pack("<f", cost)],
    }
    return lambda bent: bent.update({**tensors, **more})


def test_an_answer_says_what_each_member_took() -> None:
    found = answer(used())
    assert found.cost == pytest.approx(0.004)
    assert list(found.usage) == ["x", "y", "z"]
    assert found.usage["x"] == pytest.approx((1, 310, 12, 256, 0.25, 0.004))
    assert [type(number) for number in found.usage["x"][:4]] == [int] * 4
    assert found.usage["y"] == (0, 0, 0, 0, 0.0, 0.0)
    assert found.usage["z"] == (1, None, None, 0, 1.0, None)
    assert found.spent is not None
    assert found.spent[:4] == (2, None, None, 256)
    assert found == answer(), "what it took is no part of what it says"


def test_columns_that_a_later_release_adds_are_left_out() -> None:
    assert answer(used(rows=[(1, 2, 3, 4, 5, 6, 7, 8)] * 3)).usage["z"] == (1, 2, 3, 4, 5.0, 6.0)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1.0])
def test_a_cost_without_sense_is_not_known(cost: float) -> None:
    assert answer(used(cost=cost)).cost is None


@pytest.mark.parametrize(
    "bend",
    [
        lambda tensors: None,
        used(rows=[(1, 2, 3, 4, 5, 6)] * 2),
        used(rows=[(1, 2, 3, 4, 5)] * 3),
        used(MEMBER_USAGE=["FP32", [18], b"\0" * 72]),
        used(MEMBER_USAGE=["FP32", [3, 6], b"\0" * 71]),
        used(MEMBER_USAGE=["INT32", [3, 6], b"\0" * 72]),
    ],
    ids=["an earlier server", "of two", "too few columns", "another shape", "too short", "integers"],
)
def test_usage_without_sense_is_none(bend: Any) -> None:
    found = answer(bend)
    assert (found.usage, found.spent) == ({}, None)
    assert found.answers == answer().answers
