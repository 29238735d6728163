# SPDX-License-Identifier: Apache-2.0
"""A caller that has gone uses neither a slot nor an LLM."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, title, write_deployment
from support.gateway import KEY, SERVICE, Guarded, gated, guarded
from support.http_half import request_of
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

import quorum_client as qc
from quorum.gateway.keys import add_caller
from quorum.serving.admission import Admission, admission_of
from quorum_contract import CANCEL, CHANNELS
from quorum_contract.errors import take_code

THINK_S, REQUEST_S = 100.0, 90
SOON_S = 30.0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """`quick` answers at once, `slow` long after every test, in its step, and `apart` so in a worker."""
    slow = {"latency_ms": THINK_S * 1e3, "latency_shape": "constant"}
    members: dict[str, Any] = {
        "quick": {},
        "slow": {"options": slow, "timeout_s": 110, "max_in_flight": 8},
        "apart": {"options": {**slow, "isolated": True}, "timeout_s": 110, "max_in_flight": 8},
    }
    folder = tmp_path_factory.mktemp("cancellation")
    with guarded(
        write_deployment(folder, members, gate={"max_in_flight": 8, "timeout_s": REQUEST_S})
    ) as found:
        yield found


@pytest.fixture
def live(found: Guarded) -> Live:
    return found.live


@pytest.fixture
def tickets(live: Live) -> Admission:
    assert live.server.pid is not None
    return admission_of(live.server.pid)


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
        live.stub.ModelInfer(request, timeout=REQUEST_S)
    text, code = take_code(caught.value.details())
    return caught.value.code(), code, text


def inside(tickets: Admission) -> int:
    return tickets.inside(time.monotonic_ns())


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_cancelled_request_frees_its_slot_and_ends(live: Live, tickets: Admission, channel: str) -> None:
    call = live.stub.ModelInfer.future(question("gone", channel), timeout=REQUEST_S)
    other = live.stub.ModelInfer.future(question("stays"), timeout=REQUEST_S)
    wait(lambda: inside(tickets) == 2)
    assert cancel(live, "gone", channel)[:2] == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert inside(tickets) == 1
    assert call.result(timeout=SOON_S).id == "gone"
    assert not other.done()
    assert cancel(live, "stays")[:2] == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert other.result(timeout=SOON_S).id == "stays"
    assert inside(tickets) == 0


@pytest.mark.parametrize("name", ["never was", "finished", "GONE", "größe", "x" * 10_000])
def test_an_id_that_is_not_inside_cancels_nothing(live: Live, tickets: Admission, name: str) -> None:
    done = question("finished")
    done.parameters["timeout"].int64_param = 1
    assert live.stub.ModelInfer(done, timeout=REQUEST_S).id == "finished"
    call = live.stub.ModelInfer.future(question("gone"), timeout=REQUEST_S)
    wait(lambda: inside(tickets) == 1)
    status, code, message = cancel(live, name)
    assert (status, code) == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert "no request with that id is inside" in message
    assert inside(tickets) == 1
    assert not call.done()
    cancel(live, "gone")
    assert call.result(timeout=SOON_S).id == "gone"


@pytest.mark.parametrize("kind", ["int64_param", "bool_param", "empty"])
def test_a_cancellation_without_an_id_is_invalid(live: Live, kind: str) -> None:
    request = question("odd")
    if kind == "empty":
        request.parameters[CANCEL].string_param = ""
    else:
        setattr(request.parameters[CANCEL], kind, 1 if kind == "int64_param" else True)
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.ModelInfer(request, timeout=REQUEST_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert CANCEL in caught.value.details()


def test_a_full_server_takes_cancellations_and_has_room_at_once(live: Live, tickets: Admission) -> None:
    for _ in range(3):
        calls = [live.stub.ModelInfer.future(question(f"full-{n}"), timeout=REQUEST_S) for n in range(8)]
        wait(lambda: inside(tickets) == 8)
        with pytest.raises(grpc.RpcError, match="OVERLOADED"):
            live.stub.ModelInfer(question("one more"), timeout=REQUEST_S)
        for number in range(8):
            cancel(live, f"full-{number}")
        assert inside(tickets) == 0
        for call in calls:
            call.result(timeout=SOON_S)


def check_members_have_room(live: Live) -> None:
    """Members that still worked on eight questions would say that they are overloaded."""

    def statuses() -> set[qc.Status]:
        with qc.Client(live.url) as client:
            found = client.extract(title(1), ATTRIBUTES, category="shoes", members_timeout_s=1.0)
        return {vote.status for answer in found.answers for vote in answer.votes}

    wait(lambda: statuses() == {qc.Status.ANSWERED, qc.Status.TIMEOUT})


def test_a_cancelled_task_frees_slot_and_members(found: Guarded, live: Live, tickets: Admission) -> None:
    async def run(url: str, key: str | None) -> None:
        async with qc.AsyncClient(url, key=key, timeout_s=REQUEST_S) as client:
            tasks = [asyncio.create_task(client.extract(title(n), ATTRIBUTES)) for n in range(8)]
            await asyncio.to_thread(wait, lambda: inside(tickets) == 8)
            for task in tasks:
                task.cancel()
            ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SOON_S)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended)
            await asyncio.to_thread(wait, lambda: inside(tickets) == 0)

    for url, key in ((live.url, None), (found.url, KEY)):
        asyncio.run(asyncio.wait_for(run(url, key), REQUEST_S))
        check_members_have_room(live)


def test_closing_a_client_cancels_what_is_in_flight(live: Live, tickets: Admission) -> None:
    async def run() -> None:
        async with qc.AsyncClient(live.url, timeout_s=REQUEST_S) as client:
            waiting = asyncio.create_task(client.extract(title(1), ATTRIBUTES))
            await asyncio.to_thread(wait, lambda: inside(tickets) == 1)
        (ended,) = await asyncio.gather(waiting, return_exceptions=True)
        # Cancelled members abstain at once: their answer may come before the call has ended.
        assert isinstance(ended, asyncio.CancelledError | qc.Extraction)

    asyncio.run(asyncio.wait_for(run(), REQUEST_S))
    wait(lambda: inside(tickets) == 0)
    with qc.Client(live.url, timeout_s=REQUEST_S) as client, ThreadPoolExecutor(1) as pool:
        pool.submit(client.extract, title(1), ATTRIBUTES)
        wait(lambda: inside(tickets) == 1)
        client.close()
        wait(lambda: inside(tickets) == 0)


def test_a_run_that_is_interrupted_is_cancelled(live: Live, tickets: Admission) -> None:
    def items() -> Iterator[qc.Item]:
        yield from [qc.Item(title(n), ATTRIBUTES) for n in range(5)]
        wait(lambda: inside(tickets) == 5)
        raise KeyboardInterrupt

    with qc.Client(live.url, timeout_s=REQUEST_S) as client:
        with pytest.raises(KeyboardInterrupt):
            list(client.extract_many(items(), priority="interactive"))
        wait(lambda: inside(tickets) == 0)
        assert client.is_ready()


def test_a_caller_of_the_gateway_that_goes_is_cancelled(
    found: Guarded, live: Live, tickets: Admission
) -> None:
    with grpc.insecure_channel(found.url) as channel:
        send = channel.unary_unary(f"{SERVICE}ModelInfer")
        metadata = [("authorization", f"Bearer {KEY}")]
        calls = [
            send.future(question(name).SerializeToString(), timeout=30, metadata=metadata)
            for name in ("goes", "stays")
        ]
        wait(lambda: inside(tickets) == 2)
        calls[0].cancel()
        wait(lambda: inside(tickets) == 1)
        assert not calls[1].done()
    wait(lambda: inside(tickets) == 0)
    check_members_have_room(live)


def test_no_caller_cancels_the_request_of_another(live: Live, tickets: Admission, tmp_path: Path) -> None:
    other = add_caller(tmp_path / "keys.json", "other")

    def cancel_by(gateway: Guarded, key: str) -> None:
        request = grpc_request("quorum", bytes_tensor([b""]), [b""], b"")
        request.parameters[CANCEL].string_param = "1"
        (found,) = gateway.call("ModelInfer", request.SerializeToString(), key=key)
        assert isinstance(found, grpc.RpcError)
        assert found.code() is grpc.StatusCode.CANCELLED

    with gated(live, tmp_path, KEY) as gateway, grpc.insecure_channel(gateway.url) as channel:
        send = channel.unary_unary(f"{SERVICE}ModelInfer", None, pb.ModelInferResponse.FromString)
        metadata = [("authorization", f"Bearer {KEY}")]
        call = send.future(question("1").SerializeToString(), timeout=REQUEST_S, metadata=metadata)
        wait(lambda: inside(tickets) == 1)
        cancel_by(gateway, other)
        assert inside(tickets) == 1
        assert not call.done()
        cancel_by(gateway, KEY)
        assert call.result(timeout=SOON_S).id == "1"
    wait(lambda: inside(tickets) == 0)


def test_a_caller_over_http_that_goes_is_cancelled_too(
    live: Live, tickets: Admission, tmp_path: Path
) -> None:
    body = json.dumps({"text": title(1), "category": "shoes"}).encode()
    with gated(live, tmp_path, KEY, http_port=0) as gateway:
        host, _, port = gateway.http.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=SOON_S) as sock:
            sock.sendall(request_of("POST", "/v1/extract", body, key=KEY))
            wait(lambda: inside(tickets) == 1)
        wait(lambda: inside(tickets) == 0)
        assert gateway.reports == []
