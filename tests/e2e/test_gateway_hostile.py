# SPDX-License-Identifier: Apache-2.0
"""Random requests, deadlines and slow connections at the gateway, while a trusted caller asks.

``QUORUM_LONG=1`` sends 10 000 requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from support.deployment import ATTRIBUTES, Live, title
from support.gateway import HTTP2_PREFACE, KEY, SERVICE, Guarded, gated
from support.hostile import hostile
from support.mutate import LONG, LONG_FORM, damaged
from support.trusted import Trusted, seen_by_triton

from quorum_contract import CHANNELS, LAZY_CHANNELS, RECOMMEND_CHANNELS
from quorum_contract.errors import take_code

pytestmark = LONG_FORM
FUZZED = 10_000 if LONG else 300
AT_ONCE = 32
OPEN = {*CHANNELS, *LAZY_CHANNELS, *RECOMMEND_CHANNELS}
ALLOWED = {"timeout", "quorum_priority", "quorum_cancel"}
DEADLINES_S = (60.0, 60.0, 1e6, 0.02, 0.002, 0.0005)
"""Some pass in the moment in which an answer comes, which ends a Triton that callers reach."""
SLOW = 64
REFUSED = {"CHANNEL_NOT_FOUND", "INVALID_REQUEST", "RESOURCE_EXHAUSTED"}
"""The last one by gRPC itself, for messages that are too large."""


@pytest.fixture(scope="module")
def gateway(steady: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Before the server that other tests ask, which must not notice."""
    with gated(steady, tmp_path_factory.mktemp("gateway"), KEY) as found:
        yield found


def is_allowed(request: Any) -> bool:
    """Whether the contract has such a request: a channel, and no parameter but three of its own."""
    parts = [*request.inputs, *request.outputs]
    return (
        request.model_name in OPEN
        and request.parameters.keys() <= ALLOWED
        and not any(part.parameters for part in parts)
    )


async def send_all(url: str, key: str | None, jobs: list[tuple[bytes, float]]) -> list[str]:
    """Send messages with their deadlines; the status and our code of each, or ``answered``."""
    metadata = [("authorization", f"Bearer {key}")] if key else []
    found: list[str] = []
    async with grpc.aio.insecure_channel(url) as channel:
        send = channel.unary_unary(f"{SERVICE}ModelInfer")

        async def one(message: bytes, deadline_s: float) -> str:
            try:
                await send(message, timeout=deadline_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return take_code(error.details() or "").code or error.code().name
            return "answered"

        for begin in range(0, len(jobs), AT_ONCE):
            found += await asyncio.gather(*(one(*job) for job in jobs[begin : begin + AT_ONCE]))
    return found


def test_random_requests_of_strangers_never_reach_triton(gateway: Guarded) -> None:
    draw = random.Random(7)
    jobs = [(hostile(draw).SerializeToString(), 60.0) for _ in range(FUZZED)]
    before = seen_by_triton(gateway.live)
    assert set(asyncio.run(send_all(gateway.url, None, jobs))) == {"UNAUTHENTICATED"}
    assert seen_by_triton(gateway.live) == before


def test_random_requests_with_a_key_take_nothing_from_others(gateway: Guarded) -> None:
    """What the contract does not have is refused; the rest is answered or refused, whatever its deadline."""
    draw, pid = random.Random(8), gateway.live.server.pid
    requests = [hostile(draw) for _ in range(FUZZED)]
    jobs = [(request.SerializeToString(), draw.choice(DEADLINES_S)) for request in requests]
    cut = [(damaged(draw, message, draw.choice([1, 3])), 60.0) for message, _ in jobs[: FUZZED // 4]]
    with Trusted(gateway.live) as trusted:
        found = asyncio.run(send_all(gateway.url, KEY, jobs))
        found_cut = asyncio.run(send_all(gateway.url, KEY, cut))
    for request, (_, deadline_s), outcome in zip(requests, jobs, found, strict=True):
        if not is_allowed(request) and deadline_s >= 60:
            assert outcome in REFUSED, request
    counts = Counter([*found, *found_cut])
    assert counts["answered"] > FUZZED // 50
    assert counts["DEADLINE_EXCEEDED"] > FUZZED // 50
    assert gateway.live.server.pid == pid
    assert gateway.reports == []
    assert trusted.lost == []
    assert trusted.answered > 0


def test_connections_that_send_byte_by_byte_hold_up_none(gateway: Guarded) -> None:
    """Each begins a question with a key, and goes on for ever."""
    over = threading.Event()
    # A frame of headers that announces more than comes, after the begin of a connection.
    start = HTTP2_PREFACE + bytes([0, 3, 232, 1, 0, 0, 0, 0, 1])
    host, _, port = gateway.url.rpartition(":")
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(SLOW)]

    def drip() -> None:
        for number in range(1 << 30):
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.sendall(start[number : number + 1] or b"\0")
            if over.wait(0.01):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        with Trusted(gateway.live) as trusted, gateway.client(retries=False) as client:
            for number in range(50):
                client.extract(title(number % 24), ATTRIBUTES)
                time.sleep(0.01)
    finally:
        over.set()
        dripping.join()
        for sock in slow:
            sock.close()
    assert trusted.lost == []
    assert gateway.reports == []
