# SPDX-License-Identifier: Apache-2.0
"""The worst that comes over HTTP while a trusted caller asks: random requests, huge bodies, slow connections.

``QUORUM_LONG=1`` sends 10 000 requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import ATTRIBUTES, Live, title
from support.gateway import KEY, Guarded, gated, idle_connections, is_closed
from support.http_half import exchange, request_of
from support.mutate import LONG, LONG_FORM, as_json, damaged, mutated
from support.trusted import Trusted, seen_by_triton, settled_at

from quorum.gateway.http.connection import MAX_CONNECTIONS

pytestmark = LONG_FORM
FUZZED = 10_000 if LONG else 300
AT_ONCE = 16
CROWD = MAX_CONNECTIONS + 200
HUGE = 60 << 20
NESTED = b"[" * 130_000
CLOSE = b"connection: close\r\n"
MOST_MIB = {"triton": 32, "gateway": 160}
SCHEMA = {
    "type": "object",
    "properties": {"brand": {"type": "string"}, "color": {"enum": ["red", None]}, "x": {"type": "integer"}},
}
BODIES: dict[str, Any] = {
    "/v1/extract": {
        "text": title(2),
        "attributes": list(ATTRIBUTES),
        "id": "a",
        "category": "",
        "lazy": False,
    },
    "/v1/recommend": {"text": title(2), "k": 3, "min_score": 0.5, "category": "shoes"},
    "/v1/chat/completions": {
        "model": "quorum",
        "messages": [{"role": "user", "content": [{"type": "text", "text": title(2)}]}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        "stream": True,
        "stream_options": {"include_usage": True},
        "quorum": {"product_id": "a", "priority": "bulk"},
    },
    "/v2/models/quorum/infer": {
        "id": "7",
        "parameters": {"timeout": 5_000_000, "quorum_priority": "interactive"},
        "inputs": [
            {"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": [title(2)]},
            {"name": "CATEGORY", "datatype": "BYTES", "shape": [1], "data": [""]},
            {"name": "ATTRIBUTES", "datatype": "BYTES", "shape": [2], "data": ["brand", "size"]},
        ],
        "outputs": [{"name": "VALUES", "parameters": {"binary_data": False}}, {"name": "COST"}],
    },
}
BODIES["/v1/extract "] = {"products": [{"text": title(p), "id": f"{p}"} for p in range(3)]}
FAILED = {500, 502}


@pytest.fixture(scope="module")
def gateway(steady: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Before the server that other tests ask, which must not notice."""
    with gated(steady, tmp_path_factory.mktemp("gateway"), KEY, grpc_port=None, http_port=0) as found:
        yield found


def port_of(gateway: Guarded) -> int:
    return int(gateway.http.rpartition(":")[2])


def hostile(draw: random.Random, key: str | None) -> tuple[bytes, float]:
    """A request of a path with damage to its JSON, bytes or headers, and how long to wait for its answer.

    One whose length is damaged has the gateway wait for the rest.
    """
    path = draw.choice(list(BODIES))
    body = as_json(mutated(draw, BODIES[path], draw.choice([0, 1, 1, 2, 4]))).encode("utf-8", "surrogatepass")
    if draw.random() < 0.1:
        body = damaged(draw, body, draw.choice([1, 3]))
    headers = draw.choice([{}, {}, {"x-request-timeout-ms": draw.choice(["1", "0", "x", "9" * 40, "-1"])}])
    request = request_of("POST", path.strip(), body, key=key, headers=headers)
    return (damaged(draw, request, 1), 0.2) if draw.random() < 0.15 else (request, 60.0)


async def statuses(port: int, requests: list[tuple[bytes, float]]) -> list[int]:
    """The status of each request; 0 where the connection was closed without one."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(request: bytes, seconds: float) -> int:
        async with room:
            with contextlib.suppress(OSError, TimeoutError):
                raw = await exchange(port, request, seconds=seconds)
                if raw.startswith(b"HTTP/1.1 "):
                    return int(raw.split(b" ", 2)[1])
            return 0

    return await asyncio.gather(*(one(*request) for request in requests))


def status(port: int, request: bytes) -> int:
    return asyncio.run(statuses(port, [(request, 60.0)]))[0]


def test_random_requests_of_strangers_never_reach_triton(gateway: Guarded) -> None:
    draw = random.Random(7)
    requests = [hostile(draw, "a wrong key") for _ in range(FUZZED)]
    before = settled_at(gateway.live)
    found = Counter(asyncio.run(statuses(port_of(gateway), requests)))
    assert seen_by_triton(gateway.live) == before
    assert found[401] > FUZZED // 2
    assert not [one for one in found if one >= 500 or 200 <= one < 300], found


def test_random_requests_with_a_key_take_nothing_from_others(gateway: Guarded) -> None:
    draw, pid = random.Random(8), gateway.live.server.pid
    requests = [hostile(draw, KEY) for _ in range(FUZZED)]
    with Trusted(gateway.live) as trusted:
        found = Counter(asyncio.run(statuses(port_of(gateway), requests)))
    assert not FAILED & found.keys(), found
    assert found[200] > FUZZED // 50
    assert found[400] + found[422] > FUZZED // 10
    assert gateway.live.server.pid == pid
    assert gateway.reports == []
    assert trusted.lost == []
    assert trusted.answered > 0


def test_huge_and_nested_bodies_take_no_memory_and_never_reach_triton(gateway: Guarded) -> None:
    before, seen = gateway.memory(), settled_at(gateway.live)
    host, _, port = gateway.http.rpartition(":")
    for key in (KEY, None):
        for path in ("/v1/extract", "/v1/chat/completions", "/v2/models/quorum/infer"):
            found = status(int(port), request_of("POST", path, NESTED, key=key))
            # The connection may break while the body of a stranger is on its way.
            assert found in ((400, 422) if key else (401, 0)), path
        head = request_of("POST", "/v1/extract", key=key, headers={"content-length": str(HUGE)})
        chunked = request_of("POST", "/v1/extract", key=key, headers={"transfer-encoding": "chunked"})
        for start, chunk in ((head, bytes(1 << 16)), (chunked, b"10000\r\n" + bytes(1 << 16) + b"\r\n")):
            with (
                socket.create_connection((host, int(port)), timeout=60) as sock,
                contextlib.suppress(OSError),
            ):
                sock.sendall(start.replace(b"content-length: 0\r\n", b"").replace(CLOSE, b""))
                for _ in range(HUGE >> 16):
                    sock.sendall(chunk)
    after = gateway.memory()
    for name, most in MOST_MIB.items():
        assert after[name] - before[name] <= most, name
    assert seen_by_triton(gateway.live) == seen
    assert gateway.reports == []


def test_a_crowd_of_slow_connections_keeps_no_caller_out(gateway: Guarded) -> None:
    """More than may be connected, each with a request that never ends."""
    host, _, port = gateway.http.rpartition(":")
    start = request_of("POST", "/v1/extract", headers={"content-length": "1000"})[:-30]
    crowd = idle_connections(host, int(port), CROWD, start)
    asked = request_of("POST", "/v1/extract", json.dumps({"text": title(2)}).encode(), key=KEY)
    try:
        with Trusted(gateway.live) as trusted:
            for _ in range(10):
                assert status(int(port), asked) == 200
    finally:
        closed = sum(map(is_closed, crowd))
        for sock in crowd:
            sock.close()
    assert closed >= CROWD - MAX_CONNECTIONS
    assert trusted.lost == []
    assert gateway.reports == []
