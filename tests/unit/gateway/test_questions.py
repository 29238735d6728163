# SPDX-License-Identifier: Apache-2.0
"""Requests that are changed by bytes at their end read as if they had been written so."""

from __future__ import annotations

import pytest
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.questions import text_of, with_channel, with_cost
from quorum.gateway.routing import Router, cost_of, share_of
from quorum.gateway.upstream import with_timeout
from quorum_client import takes_canary


def question() -> pb.ModelInferRequest:
    request = grpc_request("quorum", bytes_tensor(["größe 👟".encode()]), [b"brand"], b"shoes")
    request.parameters["timeout"].int64_param = 7
    request.parameters["quorum_priority"].string_param = "bulk"
    return request


def test_the_channel_and_the_time_are_replaced() -> None:
    request = question()
    raw = with_timeout(with_channel(request.SerializeToString(), "quorum_canary"), 1.5)
    request.model_name = "quorum_canary"
    request.parameters["timeout"].int64_param = 1_500_000
    assert pb.ModelInferRequest.FromString(raw) == request


@pytest.mark.parametrize("named", [[], ["VALUES"], ["VALUES", "COST"]])
def test_cost_is_among_the_outputs(named: list[str]) -> None:
    request = question()
    for name in named:
        request.outputs.add(name=name)
    found = pb.ModelInferRequest.FromString(with_cost(request.SerializeToString(), request))
    assert [output.name for output in found.outputs] == (["VALUES", "COST"] if named else [])


def test_the_text_is_found_in_either_form() -> None:
    request = question()
    assert text_of(request) == "größe 👟"
    del request.raw_input_contents[:]
    assert text_of(request) == ""
    request.inputs[0].contents.bytes_contents.append("größe".encode())
    assert text_of(request) == "größe"


def test_the_shares_of_attributes_and_keyphrases_are_apart() -> None:
    router = Router()
    assert router.channel("quorum", "any") == "quorum"
    router.learn("quorum", 1.0)
    assert router.channel("quorum_lazy", "any") == "quorum_lazy_canary"
    assert router.channel("quorum_canary", "any") == "quorum_canary"
    assert router.channel("quorum_recommend", "any") == "quorum_recommend"
    router.learn("quorum_recommend", 0.5)
    for share in (None, float("nan"), -1.0, 2.0):
        router.learn("quorum_recommend", share)
    names = [f"sku-{number}" for number in range(50)]
    for name in names:
        expected = "quorum_recommend_canary" if takes_canary(name, 0.5) else "quorum_recommend"
        assert router.channel("quorum_recommend", name) == expected


def test_numbers_of_an_answer_are_read_and_others_are_none() -> None:
    answer = pb.ModelInferResponse()
    assert (share_of(answer), cost_of(answer)) == (None, None)
    for name in ("VALUES", "COST", "CANARY_SHARE"):
        answer.outputs.add(name=name)
    answer.raw_output_contents.extend([b"x", bytes.fromhex("0000003f"), bytes.fromhex("000000000000d03f")])
    assert (share_of(answer), cost_of(answer)) == (0.25, 0.5)
    answer.raw_output_contents[1] = b"\0"
    assert cost_of(answer) is None
