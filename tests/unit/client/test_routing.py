# SPDX-License-Identifier: Apache-2.0
"""The canary's share: which products take it, how the server tells it, and the way back to stable."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.both_clients import FULL, UNAVAILABLE

import quorum_client as qc
from quorum_client import Item

SHOE_1 = 0x453A06506ECAB2C8


def bucket(product: str) -> int:
    """The formula in other words than the client's."""
    raw = hashlib.new("blake2b", product.encode(), digest_size=8).digest()
    return sum(byte << (8 * (7 - i)) for i, byte in enumerate(raw))


def test_the_formula_is_the_one_that_is_written_down() -> None:
    # printf %s shoe-1 | b2sum -l 64
    assert bucket("shoe-1") == SHOE_1
    assert qc.takes_canary("shoe-1", (SHOE_1 + 2**12) / 2**64)
    assert not qc.takes_canary("shoe-1", (SHOE_1 - 2**12) / 2**64)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 0.99, 1.0])
def test_the_share_is_kept_and_grows_without_moving_anybody_out(share: float) -> None:
    products = [f"product-{i}" for i in range(20_000)]
    taken = {p for p in products if qc.takes_canary(p, share)}
    # Five standard deviations of a binomial.
    assert abs(len(taken) - share * 20_000) <= 5 * (20_000 * share * (1 - share)) ** 0.5
    assert taken <= {p for p in products if qc.takes_canary(p, min(1.0, share * 1.5))}


def served(share: float) -> Callable[[Any], None]:
    def bend(response: Any) -> None:
        response.tensors["CANARY_SHARE"] = ("FP64", [1], struct.pack("<d", share))

    return bend


def asked(triton: Any) -> list[str]:
    """Channels that were asked; the look at the share before the first call is not one of them."""
    return [r.model_name for r in triton.requests if r.parameters["timeout"].int64_param > 1]


@pytest.mark.parametrize(("share", "channel"), [(0, "quorum"), (1.0, "quorum_canary"), (1, "quorum_canary")])
def test_a_share_of_nothing_and_of_everything(triton: Any, make: Any, share: float, channel: str) -> None:
    found = make(triton.url, canary_share=share).extract("t", ["a"])
    assert (found.channel, found.fallback_from) == (channel, None)
    assert asked(triton) == [channel]


def test_a_product_goes_the_same_way_whatever_its_text(triton: Any, make: Any) -> None:
    items = [Item(f"text {i}", ["a"], product_id=f"p{i % 20}") for i in range(60)]
    found = make(triton.url, canary_share=0.5).many(items)
    ways = [result.channel for result in found]
    assert ways[:20] == ways[20:40] == ways[40:]
    assert ways[:20] == ["quorum_canary" if bucket(f"p{i}") < 2**63 else "quorum" for i in range(20)]


def test_the_served_share_is_known_before_the_first_product(triton: Any, make: Any) -> None:
    triton.bend = served(1.0)
    assert make(triton.url, canary_share="served").extract("t", ["a"]).channel == "quorum_canary"
    assert [r.model_name for r in triton.requests] == ["quorum", "quorum_canary"]


def test_the_served_share_is_kept_current(triton: Any, make: Any) -> None:
    # The answer to the fourth request (the look, then three products) takes the share back.
    triton.bend = lambda response: served(0.0 if len(triton.requests) >= 4 else 1.0)(response)
    found = make(triton.url, canary_share="served").many([Item("t", ["a"])] * 5, concurrency=1)
    assert [result.channel for result in found] == ["quorum_canary"] * 3 + ["quorum"] * 2


def test_a_look_that_fails_costs_no_answer(triton: Any, make: Any) -> None:
    triton.faults = [FULL]
    found = make(triton.url, canary_share="served").many([Item("t", ["a"])] * 2, concurrency=1)
    assert [result.channel for result in found] == ["quorum"] * 2
    assert len(triton.requests) == 3, "one look that failed, two products"


def test_a_look_takes_its_time_from_the_product(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0 if request.parameters["timeout"].int64_param == 1 else 0.0
    make(triton.url, canary_share="served").extract("t", ["a"], timeout_s=4)
    _, product = triton.requests
    # Half of the four seconds went into the look; of the other a tenth is kept for the way back.
    assert product.parameters["timeout"].int64_param <= 1_800_000


def test_a_call_that_names_a_channel_needs_no_look(triton: Any, make: Any) -> None:
    make(triton.url, canary_share="served").extract("t", ["a"], channel="quorum")
    assert len(triton.requests) == 1


def test_a_server_that_tells_no_share_wants_none(triton: Any, make: Any) -> None:
    assert make(triton.url, canary_share="served").extract("t", ["a"]).channel == "quorum"


def test_a_call_that_names_a_channel_is_not_routed(triton: Any, make: Any) -> None:
    assert make(triton.url, canary_share=1.0).extract("t", ["a"], channel="quorum").channel == "quorum"


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.NOT_FOUND, "unknown model"),
        (UNAVAILABLE, "no available versions"),
        (UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.INTERNAL, "stub gone"),
    ],
)
def test_a_canary_that_fails_is_replaced_by_stable_and_the_result_says_so(
    triton: Any, make: Any, fault: Any
) -> None:
    triton.refuse = {"quorum_canary": fault}
    found = make(triton.url, canary_share=1.0).extract("t", ["a"], request_id="r-5")
    assert (found.channel, found.fallback_from, found.request_id) == ("quorum", "quorum_canary", "r-5")
    assert asked(triton)[-1] == "quorum"


@pytest.mark.parametrize("fault", [FULL, (grpc.StatusCode.INVALID_ARGUMENT, "no")])
def test_what_stable_cannot_mend_is_raised(triton: Any, make: Any, fault: Any) -> None:
    triton.refuse = {"quorum_canary": fault}
    with pytest.raises((qc.Overloaded, qc.InvalidRequest)):
        make(triton.url, canary_share=1.0).extract("t", ["a"])
    assert set(asked(triton)) == {"quorum_canary"}


def test_a_canary_that_was_named_is_not_replaced(triton: Any, make: Any) -> None:
    triton.refuse = {"quorum_canary": (grpc.StatusCode.NOT_FOUND, "unknown model")}
    with pytest.raises(qc.ChannelNotFound):
        make(triton.url, channel="quorum_canary").extract("t", ["a"])


@pytest.mark.parametrize(
    "settings",
    [{"canary_share": s} for s in (-0.1, 1.1, float("nan"), "5%", True)]
    + [{"canary_share": 0.1, "channel": "quorum_canary"}],
)
def test_shares_that_cannot_be(make: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(qc.InvalidRequest, match="canary_share"):
        make("localhost:1", **settings)
