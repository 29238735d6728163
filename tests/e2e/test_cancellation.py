# SPDX-License-Identifier: Apache-2.0
"""A caller that has gone uses neither a slot nor an LLM."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.raw import bytes_tensor, grpc_request

from quorum.serving.admission import Admission, path_of
from quorum_contract import CANCEL, CHANNELS
from quorum_contract.errors import take_code

THINK_S = 20.0
SOON_S = 5.0


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`quick` answers at once, `slow` long after every test, in its step, and `apart` so in a worker."""
    slow = {"latency_ms": THINK_S * 1e3}
    members: dict[str, Any] = {
        "quick": {},
        "slow": {"options": slow, "timeout_s": 60, "max_in_flight": 8},
        "apart": {"options": {**slow, "isolated": True}, "timeout_s": 60, "max_in_flight": 8},
    }
    folder = tmp_path_factory.mktemp("cancellation")
    with running(write_deployment(folder, members, gate={"max_in_flight": 8})) as live:
        yield live


@pytest.fixture
def tickets(live: Live) -> Admission:
    assert live.server.pid is not None
    return Admission(path_of(live.server.pid))


def wait(for_what: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not for_what():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


def question(name: str, channel: str = "quorum") -> Any:
    text = bytes_tensor([title(1).encode()])
    request = grpc_request(channel, text, [a.encode() for a in ATTRIBUTES], b"shoes")
    request.id = name
    return request


def cancel(live: Live, name: str, channel: str = "quorum") -> tuple[grpc.StatusCode, str | None, str]:
    """Ask for the cancellation of a request; status, code and message of the refusal."""
    request = grpc_request(channel, bytes_tensor([b""]), [b""], b"")
    request.parameters[CANCEL].string_param = name
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.ModelInfer(request, timeout=30)
    text, code = take_code(caught.value.details())
    return caught.value.code(), code, text


def inside(tickets: Admission) -> int:
    return tickets.inside(time.monotonic_ns())


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_cancelled_request_frees_its_slot_and_ends(live: Live, tickets: Admission, channel: str) -> None:
    call = live.stub.ModelInfer.future(question("gone", channel), timeout=30)
    other = live.stub.ModelInfer.future(question("stays"), timeout=30)
    wait(lambda: inside(tickets) == 2)
    assert cancel(live, "gone", channel)[:2] == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert inside(tickets) == 1
    assert call.result(timeout=SOON_S).id == "gone"
    assert not other.done()
    assert cancel(live, "stays")[:2] == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert other.result(timeout=SOON_S).id == "stays"
    assert inside(tickets) == 0
