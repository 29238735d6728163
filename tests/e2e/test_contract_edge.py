# SPDX-License-Identifier: Apache-2.0
"""The edges of the contract on the wire: sizes, encodings, names; and both clients against raw tensors."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, WITH_HTTP, Live, running, title, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.wire import Reply, grpc_reply, plain_majority

from quorum_client import AsyncClient, Client, Extraction
from quorum_contract import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_TEXT_BYTES, Status

ODD_TEXTS = {
    "emoji": "🧦👟 socks",
    "combining": "cafe\u0301 mug",
    "right to left": "حذاء رياضي مقاس 42",
    "nul": "shoe\x00lace",
    "controls": "a\tb\r\nc\x1b[31m",
    "json": '{"brand": "]", "x": "\\u0000"}',
    "quotes": "\"'`´“”",
    "one letter": "x",
    "longest": "x" * MAX_TEXT_BYTES,
    "longest in UTF-8": "é" * (MAX_TEXT_BYTES // 2),
}
LONE_SURROGATE = "a text whose record holds half a character"


def row(text: str, attribute: str, votes: dict[str, Any], category: str = "") -> dict[str, Any]:
    return {
        "product": "p",
        "category": category,
        "title": text,
        "attribute": attribute,
        "gold": [],
        "votes": votes,
    }


def every(value: Any) -> dict[str, Any]:
    return dict.fromkeys(("alpha", "beta"), value)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two members that answer what came in, in texts that break careless code."""
    rows = [row(text, "echo", every(f"said of {name}")) for name, text in ODD_TEXTS.items()]
    rows += [row("many", f"a{i}", every(f"v{i}")) for i in range(MAX_ATTRIBUTES)]
    rows += [row(LONE_SURROGATE, "echo", {"alpha": "\ud800", "beta": "fine"})]
    rows += [row("abstains", "echo", {"alpha": None, "beta": "n/a"})]
    rows += [row("same text", "echo", every(f"in {c or 'none'}"), c) for c in ("", "a", "größe|x")]
    members: dict[str, Any] = {"alpha": {}, "beta": {}}
    folder = tmp_path_factory.mktemp("odd")
    deploy = write_deployment(
        folder, members, rows=rows, attributes={}, default_normaliser="exact", server=WITH_HTTP
    )
    with running(deploy) as live:
        yield live


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_any_text_in_utf8_is_answered(odd: Live, name: str) -> None:
    reply = odd.ask(ODD_TEXTS[name], ["echo"])
    assert reply.values == [f"said of {name}"]
    assert reply.confidence == [1.0]


@pytest.mark.parametrize("count", [1, 2, MAX_ATTRIBUTES])
def test_one_to_sixty_four_attributes(odd: Live, count: int) -> None:
    reply = odd.ask("many", [f"a{i}" for i in range(count)])
    assert reply.values == [f"v{i}" for i in range(count)]
    assert [len(votes) for votes in reply.votes.values()] == [count, count]


def test_questions_of_different_lengths_at_once_stay_apart(odd: Live) -> None:
    counts = [1 + (7 * i) % 20 for i in range(200)]

    def ask(count: int) -> tuple[list[str], list[int]]:
        reply = odd.ask("many", [f"a{i}" for i in range(count)])
        return reply.values, [len(votes) for votes in reply.votes.values()]

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, counts))
    assert answers == [([f"v{i}" for i in range(count)], [count, count]) for count in counts]


def test_the_order_of_attributes_is_the_callers(odd: Live) -> None:
    assert odd.ask("many", ["a9", "a0", "a5"]).values == ["v9", "v0", "v5"]


def test_the_category_is_part_of_the_question(odd: Live) -> None:
    for category in ("", "a", "größe|x"):
        assert odd.ask("same text", ["echo"], category).values == [f"in {category or 'none'}"]
    assert odd.ask("same text", ["echo"], "unheard of").votes["alpha"] == [("", Status.NOT_ASKED)]


def test_an_attribute_outside_of_the_catalogue_is_open(steady: Live) -> None:
    reply = steady.ask(title(0), ["brand", "no such attribute"])
    assert reply.values[0] != ""
    assert [reply.votes[m][1] for m in reply.members] == [("", Status.UNPARSABLE)] * 3
    assert (reply.values[1], reply.confidence[1]) == ("", 0.0)


def test_an_abstention_is_no_vote_for_not_given(odd: Live) -> None:
    reply = odd.ask("abstains", ["echo"])
    assert reply.votes == {"alpha": [("", Status.NOT_ASKED)], "beta": [("n/a", Status.ANSWERED)]}
    assert reply.values == ["n/a"]


def test_half_a_character_is_an_abstention_and_hangs_nobody(odd: Live) -> None:
    reply = odd.ask(LONE_SURROGATE, ["echo"], timeout_s=20)
    assert reply.votes == {"alpha": [("", Status.UNPARSABLE)], "beta": [("fine", Status.ANSWERED)]}
    assert reply.values == ["fine"]


BAD = {
    "65 attributes": ("many", [f"a{i}" for i in range(MAX_ATTRIBUTES + 1)], b"", "limit is 64"),
    "duplicate attribute": ("many", ["a0", "a1", "a0"], b"", "a second time"),
    "empty attribute": ("many", [""], b"", "ATTRIBUTES[0]: empty"),
    "blank attribute": ("many", ["a0", "  "], b"", "ATTRIBUTES[1]: empty"),
    "control in attribute": ("many", ["a\nb"], b"", "control"),
    "long attribute": ("many", ["a" * (MAX_ATTRIBUTE_BYTES + 1)], b"", "limit is 128"),
    "text over the limit": ("x" * (MAX_TEXT_BYTES + 1), ["a0"], b"", "limit is 32768"),
    "5 MB text": ("x" * 5_000_000, ["a0"], b"", "limit is 32768"),
    "blank text": (" \n\t ", ["a0"], b"", "TEXT: empty"),
    "category over the limit": ("many", ["a0"], b"c" * 257, "limit is 256"),
    "category not UTF-8": ("many", ["a0"], b"\xc3\x28", "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_contract_is_refused_with_the_reason(odd: Live, name: str) -> None:
    text, attributes, category, reason = BAD[name]
    names = [a.encode() for a in attributes]
    request = grpc_request("quorum", bytes_tensor([text.encode()]), names, category)
    with pytest.raises(grpc.RpcError) as caught:
        odd.stub.ModelInfer(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason in caught.value.details()
    assert caught.value.details().endswith(" [quorum:INVALID_REQUEST]")
    assert odd.ask("many", ["a0"]).values == ["v0"]


def test_attributes_that_are_not_utf8_are_refused(odd: Live) -> None:
    request = grpc_request("quorum", bytes_tensor([b"many"]), [b"a0", b"\xff"], b"")
    with pytest.raises(grpc.RpcError, match="not UTF-8"):
        odd.stub.ModelInfer(request, timeout=30)


def test_no_attributes_are_refused(odd: Live) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        odd.stub.ModelInfer(grpc_request("quorum", bytes_tensor([b"many"]), [], b""), timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("tensor", "shape", "data"),
    [
        ("TEXT", [2], ["a", "b"]),
        ("TEXT", [1, 1], ["a"]),
        ("CATEGORY", [0], []),
        ("ATTRIBUTES", [1, 2], ["a", "b"]),
    ],
)
def test_wrong_shapes_are_refused_over_http(
    odd: Live, tensor: str, shape: list[int], data: list[str]
) -> None:
    inputs = {"TEXT": ([1], ["many"]), "CATEGORY": ([1], [""]), "ATTRIBUTES": ([1], ["a0"])}
    inputs[tensor] = (shape, data)
    body = json.dumps(
        {"inputs": [{"name": n, "shape": s, "datatype": "BYTES", "data": d} for n, (s, d) in inputs.items()]}
    )
    connection = http.client.HTTPConnection("127.0.0.1", odd.endpoint.http_port, timeout=30)
    connection.request("POST", "/v2/models/quorum/infer", body)
    response = connection.getresponse()
    assert response.status == 400, response.read()
    connection.close()


def test_a_missing_input_is_refused(odd: Live) -> None:
    request = grpc_request("quorum", bytes_tensor([b"many"]), [b"a0"], b"")
    del request.inputs[1], request.raw_input_contents[1]
    with pytest.raises(grpc.RpcError) as caught:
        odd.stub.ModelInfer(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def as_raw(found: Extraction) -> Reply:
    members = [vote.member for vote in found.answers[0].votes]
    votes = {
        m: [(a.votes[j].value or "", int(a.votes[j].status)) for a in found.answers]
        for j, m in enumerate(members)
    }
    scores = {m: [a.votes[j].score for a in found.answers] for j, m in enumerate(members)}
    values = [a.value or "" for a in found.answers]
    confidence = [a.confidence for a in found.answers]
    return Reply(values, confidence, members, votes, found.weights_version, scores)


@pytest.mark.parametrize("channel", ["quorum", "quorum_canary"])
def test_both_clients_agree_with_the_tensors(steady: Live, channel: str) -> None:
    names = [*ATTRIBUTES, "unheard of"]

    async def aio(i: int) -> Extraction:
        async with AsyncClient(steady.url, channel=channel) as client:
            return await client.extract(title(i), names, category="shoes" if i % 2 else "")

    with Client(steady.url, channel=channel) as client:
        for i in range(12):
            category = "shoes" if i % 2 else ""
            raw = grpc_reply(
                steady.ask_raw(bytes_tensor([title(i).encode()]), names, category, channel).result()
            )
            blocking = client.extract(title(i), names, category=category, request_id=f"id-{i}")
            assert as_raw(blocking) == raw == as_raw(asyncio.run(aio(i)))
            assert blocking.request_id == f"id-{i}"
            for at in range(len(ATTRIBUTES)):
                assert raw.values[at] == plain_majority([raw.votes[m][at] for m in raw.members])
