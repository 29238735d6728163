# SPDX-License-Identifier: Apache-2.0
"""Lazy calls go to the lazy channels, with the canary's share of the products."""

from __future__ import annotations

import struct
from typing import Any

import grpc
import pytest

import quorum_client as qc
from quorum_client import Item
from quorum_contract import CANARY, LAZY, LAZY_CANARY, STABLE


def asked(triton: Any) -> list[str]:
    return [r.model_name for r in triton.requests if r.parameters["timeout"].int64_param > 1]


def test_a_lazy_call_asks_the_lazy_channel(triton: Any, make: Any) -> None:
    assert make(triton.url).extract("t", ["a"], lazy=True).channel == LAZY
    assert make(triton.url).extract("t", ["a"]).channel == STABLE
    found = make(triton.url).many([Item("t", ["a"])] * 2, lazy=True)
    assert [result.channel for result in found] == [LAZY, LAZY]
    assert asked(triton) == [LAZY, STABLE, LAZY, LAZY]


@pytest.mark.parametrize(("own", "lazy"), [(CANARY, LAZY_CANARY), (LAZY, LAZY), (LAZY_CANARY, LAZY_CANARY)])
def test_the_channel_of_the_client_has_a_lazy_namesake(triton: Any, make: Any, own: str, lazy: str) -> None:
    assert make(triton.url, channel=own).extract("t", ["a"], lazy=True).channel == lazy


def test_the_share_of_the_canary_is_that_of_the_lazy_canary(triton: Any, make: Any) -> None:
    products = [f"p{number}" for number in range(20)]
    items = [Item("t", ["a"], product_id=product) for product in products]
    found = make(triton.url, canary_share=0.5).many(items, lazy=True)
    channels = [result.channel for result in found]
    assert channels == [LAZY_CANARY if qc.takes_canary(p, 0.5) else LAZY for p in products]
    assert {*channels} == {LAZY, LAZY_CANARY}


def test_the_served_share_is_looked_up_on_the_lazy_channel(triton: Any, make: Any) -> None:
    def bend(response: Any) -> None:
        response.tensors["CANARY_SHARE"] = ("FP64", [1], struct.pack("<d", 1.0))

    triton.bend = bend
    assert make(triton.url, canary_share="served").extract("t", ["a"], lazy=True).channel == LAZY_CANARY
    assert [request.model_name for request in triton.requests] == [LAZY, LAZY_CANARY]


def test_a_lazy_canary_that_fails_is_replaced_by_the_lazy_stable_channel(triton: Any, make: Any) -> None:
    triton.refuse = {LAZY_CANARY: (grpc.StatusCode.NOT_FOUND, "unknown model")}
    found = make(triton.url, canary_share=1.0).extract("t", ["a"], lazy=True)
    assert (found.channel, found.fallback_from) == (LAZY, LAZY_CANARY)


@pytest.mark.parametrize(("settings", "call"), [({}, {"channel": CANARY}), ({"channel": "own"}, {})])
def test_lazy_and_a_channel_of_its_own_are_one_too_many(
    triton: Any, make: Any, settings: dict[str, str], call: dict[str, str]
) -> None:
    with pytest.raises(
        qc.InvalidRequest, match=r"lazy: True with channel '(quorum_canary|own)'; give one of"
    ):
        make(triton.url, **settings).extract("t", ["a"], lazy=True, **call)
    assert triton.requests == []


def test_a_deployment_without_lazy_channels_says_how_to_get_them(triton: Any, make: Any) -> None:
    triton.refuse = {LAZY: (grpc.StatusCode.NOT_FOUND, "unknown model")}
    with pytest.raises(qc.ChannelNotFound, match=r"once `lazy: \{\}` is in deploy.yaml"):
        make(triton.url).extract("t", ["a"], lazy=True)
