# SPDX-License-Identifier: Apache-2.0
"""Tensors as JSON: what becomes a message, what is refused, and how answers are written."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.http.kserve_tensors import (
    InferRequest,
    answer_of,
    message_of,
    text_of,
    timeout_of_parameters,
)
from quorum_client import InvalidRequest, ProtocolError
from quorum_contract import RECOMMEND
from quorum_contract.tracing import TRACE_PARENT

TEXT = {"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["größe 42"]}
CATEGORY = {"name": "CATEGORY", "datatype": "BYTES", "shape": [1], "data": [""]}
ATTRIBUTES = {"name": "ATTRIBUTES", "datatype": "BYTES", "shape": [2], "data": ["brand", "size"]}
LIMIT = {"name": "LIMIT", "datatype": "INT32", "shape": [1], "data": [3]}
MIN_SCORE = {"name": "MIN_SCORE", "datatype": "FP32", "shape": [1], "data": [0]}
HUGE = 10**400


def request(*inputs: Any, **more: Any) -> InferRequest:
    return msgspec.convert({"inputs": list(inputs), **more}, InferRequest)


def message(*inputs: Any, channel: str = "quorum", **more: Any) -> Any:
    return message_of(request(*inputs, **more), channel, "id-1", 2.0)


def test_a_question_becomes_a_message_with_its_deadline() -> None:
    given = {"quorum_priority": "bulk", TRACE_PARENT: f"00-{'a' * 32}-{'b' * 16}-01"}
    asked = request(TEXT, CATEGORY, ATTRIBUTES, parameters=given)
    found = message_of(asked, "quorum", "id-1", 2.0)
    assert TRACE_PARENT not in found.parameters
    assert (found.model_name, found.id) == ("quorum", "id-1")
    assert found.parameters["timeout"].int64_param == 1_800_000
    assert found.parameters["quorum_priority"].string_param == "bulk"
    assert [bytes(one) for one in found.inputs[2].contents.bytes_contents] == [b"brand", b"size"]
    assert text_of(asked) == "größe 42"
    keyphrases = message(TEXT, CATEGORY, LIMIT, MIN_SCORE, channel=RECOMMEND)
    assert list(keyphrases.inputs[2].contents.int_contents) == [3]
    assert list(keyphrases.inputs[3].contents.fp32_contents) == [0.0]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"TEXT": {"data": [" "]}}, "empty"),
        ({"TEXT": {"data": [5]}}, "no element of BYTES"),
        ({"TEXT": {"data": None}}, "binary tensors"),
        ({"TEXT": {"data": ["x" * 40_000]}}, "the limit is 32768"),
        ({"TEXT": {"data": ["a", "b"], "shape": [2]}}, "send one"),
        ({"TEXT": {"datatype": "FP32"}}, "send BYTES"),
        ({"TEXT": {"shape": [1, 1]}}, "shape"),
        ({"TEXT": {"shape": [HUGE]}}, "shape"),
        ({"TEXT": {"parameters": {"shared_memory_region": "a"}}}, "shared_memory_region"),
        ({"TEXT": {"name": "TITLE"}}, "once each"),
        ({"ATTRIBUTES": {"data": ["brand", "Brand"]}}, "Brand"),
        ({"LIMIT": {"data": [HUGE]}}, "no element of INT32"),
        ({"LIMIT": {"data": [101]}}, "1 to 100"),
        ({"MIN_SCORE": {"data": [HUGE]}}, "no element of FP32"),
        ({"MIN_SCORE": {"data": [2]}}, "cosine"),
    ],
)
def test_what_the_contract_does_not_have_is_refused(changed: dict[str, Any], fault: str) -> None:
    (name,) = changed
    recommends = name in ("LIMIT", "MIN_SCORE")
    tensors = (TEXT, CATEGORY, LIMIT, MIN_SCORE) if recommends else (TEXT, CATEGORY, ATTRIBUTES)
    inputs = [tensor | (changed[name] if tensor["name"] == name else {}) for tensor in tensors]
    with pytest.raises(InvalidRequest, match=fault):
        message(*inputs, channel=RECOMMEND if recommends else "quorum")


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"parameters": {"quorum_cancel": "id-2"}}, "quorum_cancel"),
        ({"parameters": {"quorum_priority": "first"}}, "priority"),
        ({"outputs": [{"name": "VALUES", "parameters": {"classification": 1}}]}, "classification"),
        ({"outputs": [{"name": "SECRET"}]}, "SECRET"),
    ],
)
def test_parameters_and_outputs_are_those_of_the_contract(more: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        message(TEXT, CATEGORY, ATTRIBUTES, **more)


def test_the_parameter_timeout_is_the_time_up_to_the_longest() -> None:
    given = [timeout_of_parameters(request(parameters={"timeout": one}), 5.0) for one in (1_500_000, HUGE)]
    assert given == [1.5, 5.0]
    assert timeout_of_parameters(request(), 5.0) == 5.0
    for wrong in (0, -1, True, "9"):
        with pytest.raises(InvalidRequest, match="microseconds"):
            timeout_of_parameters(request(parameters={"timeout": wrong}), 5.0)


def test_an_answer_is_json_that_strict_parsers_read() -> None:
    response = pb.ModelInferResponse(model_name="quorum", model_version="1")
    response.outputs.add(name="VALUES", datatype="BYTES", shape=[2])
    response.outputs.add(name="COST", datatype="FP32", shape=[1])
    response.outputs.add(name="WEIGHTS_VERSION", datatype="INT64", shape=[1])
    parts = [part.encode() for part in ("größe", "")]
    raw = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    response.raw_output_contents.extend([raw, struct.pack("<f", float("nan")), struct.pack("<q", 7)])
    found = json.loads(msgspec.json.encode(answer_of(response, request(id="x"), "quorum")))
    assert found["id"] == "x"
    assert [one["data"] for one in found["outputs"]] == [["größe", ""], [None], [7]]
    asked = request(outputs=[{"name": "COST"}])
    assert [one.name for one in answer_of(response, asked, "quorum").outputs] == ["COST"]
    response.outputs[2].datatype = "UINT8"
    with pytest.raises(ProtocolError, match="same release"):
        answer_of(response, request(), "quorum")
