# SPDX-License-Identifier: Apache-2.0
"""Requests for keyphrases and their answers, as the client builds and reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from quorum_client import Keyphrase, ProtocolError, Recommendation, RecommendItem, _recommend
from quorum_client._connection import Connection
from quorum_client._routing import RECOMMENDING
from quorum_contract import BULK, CHANNELS, INTERACTIVE, RECOMMEND, RECOMMEND_CANARY

Bend = Callable[[dict[str, list[Any]]], object]


def test_a_request_has_the_four_tensors() -> None:
    item = RecommendItem("größe", "shoes", 7, 0.25)
    message = _recommend.request(item, channel="c", request_id="r", timeout_us=5, priority=BULK)
    assert (message.model_name, message.id, message.parameters["timeout"].int64_param) == ("c", "r", 5)
    assert message.parameters["quorum_priority"].string_param == "bulk"
    found = {tensor.name: (tensor.datatype, list(tensor.shape), tensor.contents) for tensor in message.inputs}
    assert [(name, kind, shape) for name, (kind, shape, _) in found.items()] == [
        ("TEXT", "BYTES", [1]),
        ("CATEGORY", "BYTES", [1]),
        ("LIMIT", "INT32", [1]),
        ("MIN_SCORE", "FP32", [1]),
    ]
    assert list(found["TEXT"][2].bytes_contents) == ["größe".encode()]
    assert list(found["LIMIT"][2].int_contents) == [7]
    assert list(found["MIN_SCORE"][2].fp32_contents) == [0.25]


def test_without_a_least_score_any_is_asked_for() -> None:
    message = _recommend.request(
        RecommendItem("a"), channel="c", request_id="r", timeout_us=5, priority=INTERACTIVE
    )
    assert list(message.inputs[3].contents.fp32_contents) == [-1.0]


def read(bend: Bend = lambda tensors: None, ident: str = "r") -> Recommendation:
    """Parse an answer with two keyphrases, bent by the test."""
    strings = b"".join(struct.pack("<I", len(text)) + text for text in ("größe".encode(), b"red shoe"))
    tensors: dict[str, list[Any]] = {
        "KEYPHRASES": ["BYTES", [2], strings],
        "KEYPHRASE_SCORES": ["FP32", [2], struct.pack("<2f", 0.5, -1.0)],
        "RETRIEVER_VERSION": ["INT64", [1], struct.pack("<q", 9)],
    }
    bend(tensors)
    message = pb.ModelInferResponse(model_name="quorum_recommend", id=ident)
    for name, (datatype, shape, raw) in tensors.items():
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(raw)
    return _recommend.recommendation(message, "r", 0.1)


def test_an_answer_has_its_keyphrases_and_version() -> None:
    found = read()
    assert found.keyphrases == (Keyphrase("größe", 0.5), Keyphrase("red shoe", -1.0))
    assert (found.version, found.channel, found.request_id) == (9, RECOMMEND, "r")


def without(name: str) -> Bend:
    return lambda tensors: tensors.pop(name)


def changed(name: str, at: int, value: Any) -> Bend:
    return lambda tensors: tensors[name].__setitem__(at, value)


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (without("KEYPHRASES"), "no output KEYPHRASES"),
        (without("RETRIEVER_VERSION"), "no output RETRIEVER_VERSION"),
        (changed("KEYPHRASE_SCORES", 0, "FP64"), "KEYPHRASE_SCORES is FP64, expected FP32"),
        (changed("KEYPHRASE_SCORES", 2, struct.pack("<f", 0.5)), "unpack requires"),
        (changed("KEYPHRASE_SCORES", 2, struct.pack("<2f", 0.5, 1.5)), r"is not in \[-1, 1\]"),
        (changed("KEYPHRASE_SCORES", 2, struct.pack("<2f", float("nan"), 0)), r"is not in \[-1, 1\]"),
        (changed("KEYPHRASES", 2, b"\x05\0\0\0ab"), "KEYPHRASES ends within element 0"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(bend: Bend, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read(bend)


def test_the_answer_to_another_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="carries the id 'other'"):
        read(ident="other")


def connection(share: Any = None) -> Connection:
    return Connection("host:1", timeout_s=10.0, canary_share=share)


def test_both_kinds_of_requests_are_routed_by_their_own_share() -> None:
    both = connection("served")
    assert both.first_look(5.0, None) is not None
    look = both.first_look(5.0, None, RECOMMENDING)
    assert look is not None
    assert (look.message.model_name, look.is_look) == (RECOMMEND, True)
    both.share_unknown(RECOMMENDING)
    assert both.first_look(5.0, None, RECOMMENDING) is None
    assert both.first_look(5.0, None) is not None
    all_ = connection(1.0)
    call = all_.recommend_call(RecommendItem("a"))
    assert (call.channel, call.routed) == (RECOMMEND_CANARY, True)
    assert all_.call("a", ["b"], "", 5.0, None, None).channel == CHANNELS[1]
    assert all_.recommend_call(RecommendItem("a"), channel=RECOMMEND).routed is False


def test_no_server_is_asked_to_cancel_a_recommendation() -> None:
    call = connection().recommend_call(RecommendItem("a"))
    assert connection().attempts(call).cancel_message() is None
    other = connection().call("a", ["b"], "", 5.0, None, None)
    assert connection().attempts(other).cancel_message() is not None
