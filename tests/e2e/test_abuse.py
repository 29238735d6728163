# SPDX-License-Identifier: Apache-2.0
"""Thousands of fast requests, a third of them malformed, with a member that fails inside all the while."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from support.deployment import ATTRIBUTES, WITH_HTTP, Live, running, title, write_deployment
from support.raw import MALFORMED, bytes_tensor, grpc_request, http_request
from support.traces import listening, prefix_of, session_processes, shared_memory
from support.wire import Reply, grpc_reply, json_reply, plain_majority
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum_contract import Status

REQUESTS = 2_000
AT_ONCE = 48
MEMBERS = ("alpha", "flaky", "gamma")
KINDS = list(MALFORMED)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    members = {"alpha": {}, "flaky": {"options": {"fail_share": 0.34, "seed": 7}}, "gamma": {}}
    with running(write_deployment(tmp_path_factory.mktemp("abuse"), members, server=WITH_HTTP)) as live:
        yield live


def recorded(live: Live) -> dict[tuple[str, str, str], dict[str, str]]:
    rows = map(json.loads, (live.spec.root / "votes.jsonl").read_text("utf-8").splitlines())
    return {(row["title"], row["category"], row["attribute"]): row["votes"] for row in rows}


def buffer_of(i: int) -> bytes:
    good = bytes_tensor([title(i % 24).encode()])
    return MALFORMED[KINDS[i // 3 % len(KINDS)]] if i % 3 == 0 else good


def category_of(i: int) -> str:
    return "shoes" if i % 24 % 2 else ""


def check_right(reply: Reply, i: int, truth: dict[tuple[str, str, str], dict[str, str]]) -> Status:
    """The decision follows from the votes, the votes from the table; what became of the flaky member."""
    assert reply.members == list(MEMBERS)
    statuses = set()
    for at, attribute in enumerate(ATTRIBUTES):
        votes = truth[title(i % 24), category_of(i), attribute]
        for member in MEMBERS:
            value, status = reply.votes[member][at]
            assert (value, status) == (votes[member], 0) or (member, value, status) == (
                "flaky",
                "",
                Status.ERROR,
            )
        statuses.add(Status(reply.votes["flaky"][at][1]))
        assert reply.values[at] == plain_majority([reply.votes[m][at] for m in MEMBERS])
    (flaky,) = statuses
    return flaky


async def send_grpc(live: Live) -> list[Reply | grpc.StatusCode]:
    free = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(live.url) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def one(i: int) -> Reply | grpc.StatusCode:
            names = [a.encode() for a in ATTRIBUTES]
            request = grpc_request("quorum", buffer_of(i), names, category_of(i).encode())
            async with free:
                try:
                    return grpc_reply(await stub.ModelInfer(request, timeout=60))
                except grpc.aio.AioRpcError as error:
                    return error.code()

        return await asyncio.gather(*map(one, range(REQUESTS)))


def post(connection: http.client.HTTPConnection, i: int) -> Reply | int:
    body, headers = http_request(buffer_of(i), [a.encode() for a in ATTRIBUTES], category_of(i).encode())
    connection.request("POST", "/v2/models/quorum/infer", body, headers)
    response = connection.getresponse()
    data = response.read()
    if response.status != 200:
        return response.status
    return json_reply(json.loads(data))


def send_http(live: Live) -> list[Reply | int]:
    replies: list[Reply | int] = [0] * REQUESTS

    def work(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", live.endpoint.http_port, timeout=60)
        for i in range(first, REQUESTS, AT_ONCE // 2):
            replies[i] = post(connection, i)
        connection.close()

    with ThreadPoolExecutor(AT_ONCE // 2) as pool:
        list(pool.map(work, range(AT_ONCE // 2)))
    return replies


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_good_requests_are_answered_right_and_bad_ones_refused(live: Live, protocol: str) -> None:
    replies = asyncio.run(send_grpc(live)) if protocol == "grpc" else send_http(live)
    refused = grpc.StatusCode.INVALID_ARGUMENT if protocol == "grpc" else 400
    truth = recorded(live)
    flaky: Counter[Status] = Counter()
    for i, reply in enumerate(replies):
        if i % 3 == 0:
            assert reply == refused, (KINDS[i // 3 % len(KINDS)], reply)
        else:
            assert isinstance(reply, Reply), reply
            flaky[check_right(reply, i, truth)] += 1
    assert flaky.keys() == {Status.ANSWERED, Status.ERROR}
    assert flaky[Status.ERROR] > REQUESTS // 10
    assert live.server.pid is not None
    assert live.control.is_ready("quorum")


def test_a_server_that_was_abused_stops_and_leaves_nothing(live: Live) -> None:
    pid, prefix, endpoint = live.server.pid, prefix_of(live.server), live.endpoint
    assert pid is not None
    assert len(session_processes(pid)) > len(MEMBERS)
    assert shared_memory(prefix)
    scratch = Path(live.server._scratch or "")
    live.server.stop()
    assert session_processes(pid) == set()
    assert shared_memory(prefix) == set()
    assert listening(endpoint) == []
    assert not scratch.exists()
