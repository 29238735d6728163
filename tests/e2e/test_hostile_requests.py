# SPDX-License-Identifier: Apache-2.0
"""Random raw requests: each is answered or refused with a status, and the next good one is answered right."""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from support.deployment import ATTRIBUTES, WITH_HTTP, Live, running, title, write_deployment
from support.hostile import MEMBERS, hostile
from support.mutate import LONG, LONG_FORM, as_json, damaged, mutated
from support.wire import Reply, plain_majority

from quorum_contract import STABLE

pytestmark = LONG_FORM
FUZZED = 20_000 if LONG else 1_200
AT_ONCE = 16
DEADLY_OUTPUT_PARAMETER = "classification"
"""Not sent: Triton 2.51 aborts on it for an output of texts, so that no caller may reach it with one."""
PATIENT_S = (60.0, 60.0, 1e6, 1e8)
"""Deadlines of calls, none of which passes. Triton 2.51 may crash when a call is cancelled, or its deadline
passes, in the moment in which its answer comes: a few hundred valid calls to a step, of a few ms each, are
enough. The race is in its gRPC endpoint and fixed in later releases (triton-inference-server/server, pull
requests 7840 and 8078); what stands between callers and Triton keeps it from them if it cancels no call."""
DEEP = ("[" * 50, '{"a":' * 50)
"""Not sent over HTTP: Triton 2.51 reads JSON by recursion, and 130 kB of it nested ends the server."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of its own: what damages it must not fail other tests."""
    with running(
        write_deployment(tmp_path_factory.mktemp("hostile"), {name: {} for name in MEMBERS}, server=WITH_HTTP)
    ) as live:
        yield live


def check_answers_right(live: Live) -> None:
    reply = live.ask(title(1), ATTRIBUTES, "shoes")
    assert isinstance(reply, Reply)
    for at in range(len(ATTRIBUTES)):
        ballots = [reply.votes[member][at] for member in MEMBERS]
        assert all(status == 0 for _, status in ballots)
        assert reply.values[at] == plain_majority(ballots)


def test_a_server_lives_through_random_requests_and_answers_right(live: Live) -> None:
    draw, found = random.Random(5), Counter[str]()
    for _ in range(FUZZED // AT_ONCE):
        requests = [hostile(draw) for _ in range(AT_ONCE)]
        timeouts = [draw.choice(PATIENT_S) for _ in requests]
        futures = [
            live.stub.ModelInfer.future(request, timeout=timeout)
            for request, timeout in zip(requests, timeouts, strict=True)
        ]
        for request, future in zip(requests, futures, strict=True):
            error = future.exception()
            found["answered" if error is None else error.code().name] += 1
            assert error is None or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED, request
            assert live.server.pid is not None, request
        check_answers_right(live)
    assert found["answered"] > FUZZED // 20
    assert found[grpc.StatusCode.INVALID_ARGUMENT.name] > FUZZED // 4


def as_http(product: int) -> dict[str, object]:
    """The question of :func:`good` in the JSON of the HTTP endpoint."""
    texts = {
        "TEXT": [title(product)],
        "CATEGORY": ["shoes" if product % 2 else ""],
        "ATTRIBUTES": [*ATTRIBUTES],
    }
    inputs = [
        {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}
        for name, data in texts.items()
    ]
    outputs = [{"name": name, "parameters": {"binary_data": False}} for name in ("VALUES", "CONFIDENCE")]
    return {"id": "1", "parameters": {"timeout": 0}, "inputs": inputs, "outputs": outputs}


def status_of(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> int:
    connection.request("POST", f"/v2/models/{STABLE}/infer", body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


def test_a_server_lives_through_random_json_and_answers_right(live: Live) -> None:
    draw, found = random.Random(6), Counter[int]()
    connection = http.client.HTTPConnection("127.0.0.1", live.endpoint.http_port, timeout=60)
    assert status_of(connection, json.dumps(as_http(1)).encode(), {}) == 200
    for number in range(FUZZED // 2):
        text = as_json(mutated(draw, as_http(draw.randrange(24)), draw.choice([1, 1, 2, 3])))
        body = text.encode("utf-8", "surrogatepass")
        body = damaged(draw, body) if draw.random() < 0.3 else body
        if any(deep.encode() in body for deep in DEEP):
            continue
        length = draw.choice([len(body), len(body) - 1, 0, -1, 1 << 40])
        headers = {"Inference-Header-Content-Length": str(length)} if draw.random() < 0.2 else {}
        found[status_of(connection, body, headers)] += 1
        assert live.server.pid is not None, body
        if number % AT_ONCE == 0:
            check_answers_right(live)
    connection.close()
    check_answers_right(live)
    assert found.keys() <= {200, 400, 404, 500, 503}
    assert min(found[200], found[400]) > FUZZED // 40
