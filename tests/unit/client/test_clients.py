# SPDX-License-Identifier: Apache-2.0
"""Both clients against a gRPC server in this process: what goes out, what comes back, what is raised."""

from __future__ import annotations

import inspect
import re
from typing import Any, Literal

import grpc
import pytest
from support.both_clients import FULL, UNAVAILABLE

import quorum_client as qc
from quorum_contract.errors import with_code


def test_a_question_and_its_answer(triton: Any, make: Any) -> None:
    client = make(triton.url, headers={"X-Key": "k"}, channel="quorum_canary", timeout_s=10)
    found = client.extract("Schuh größe 42", ["brand", "size"], category="shoes", request_id="r-1")
    sent = triton.requests[0]
    assert (sent.model_name, sent.id) == ("quorum_canary", "r-1")
    assert {t.name: list(t.contents.bytes_contents) for t in sent.inputs} == {
        "TEXT": ["Schuh größe 42".encode()],
        "CATEGORY": [b"shoes"],
        "ATTRIBUTES": [b"brand", b"size"],
    }
    assert all(t.datatype == "BYTES" for t in sent.inputs)
    assert sent.parameters["timeout"].int64_param == 9_750_000
    assert triton.headers[0]["x-key"] == "k"
    assert found.request_id == "r-1"
    assert [a.value for a in found.answers] == ["v-brand", "v-size"]
    assert [(v.member, v.score) for v in found["brand"].votes] == [("llama", -0.5), ("qwen", -0.5)]
    assert 0 < found.latency_s < 10


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ((grpc.StatusCode.INVALID_ARGUMENT, "TEXT: too rude"), qc.InvalidRequest, "TEXT: too rude"),
        ((grpc.StatusCode.NOT_FOUND, "unknown model"), qc.ChannelNotFound, "no channel 'quorum'"),
        ((UNAVAILABLE, "no available versions"), qc.Unavailable, "no available versions"),
        (FULL, qc.Overloaded, "is full: in ensemble 'quorum', 5 requests are being answered; retry later$"),
        ((UNAVAILABLE, "going down [quorum:UNAVAILABLE]"), qc.Unavailable, "going down; try again later"),
        ((UNAVAILABLE, "who knows [quorum:LATER_RELEASE]"), qc.Disconnected, "broke off: who knows;"),
        ((UNAVAILABLE, "Exceeds maximum queue size"), qc.Overloaded, "is full"),
        ((UNAVAILABLE, "This protocol is restricted, expecting x"), qc.ServerError, "headers="),
        ((grpc.StatusCode.DEADLINE_EXCEEDED, ""), qc.DeadlineExceeded, "within 30 s"),
        ((grpc.StatusCode.INTERNAL, "stub gone"), qc.ServerError, "INTERNAL: stub gone"),
        ((grpc.StatusCode.PERMISSION_DENIED, "no"), qc.ServerError, "PERMISSION_DENIED"),
        ((grpc.StatusCode.UNAUTHENTICATED, "no [quorum:UNAUTHENTICATED]"), qc.Unauthenticated, "no; .*key="),
        ((UNAVAILABLE, "Stream removed (RST_STREAM with error code 7)"), qc.Overloaded, "is full"),
    ],
)
def test_every_status_becomes_one_of_our_errors(
    triton: Any, make: Any, fault: Any, kind: type[qc.QuorumError], words: str
) -> None:
    triton.always = fault
    with pytest.raises(qc.QuorumError, match=words) as caught:
        make(triton.url).extract("t", ["a"], request_id="r-9")
    assert type(caught.value) is kind
    assert caught.value.request_id == "r-9"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("key", [None, "k-1"])
def test_the_key_goes_with_every_call(triton: Any, make: Any, key: str | None) -> None:
    client = make(triton.url, key=key, headers={"x-team": "shoes"})
    client.extract("t", ["a"])
    sent = triton.headers[0]
    assert sent.get("authorization") == (f"Bearer {key}" if key else None)
    assert sent["x-team"] == "shoes"


def test_readiness(triton: Any, make: Any, nowhere: str) -> None:
    assert make(triton.url).is_ready()
    assert not make(triton.url).is_ready("quorum_canary")
    assert not make(nowhere, retries=False).is_ready()
    triton.always = (grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(qc.ServerError):
        make(triton.url).is_ready()


def test_a_closed_client_says_so(triton: Any, make: Any) -> None:
    client = make(triton.url)
    client.extract("t", ["a"])
    with pytest.raises(RuntimeError, match="closed"):
        client.extract("t", ["a"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "http://localhost:8001"}, "without a scheme"),
        ({"url": ""}, "host:port"),
        ({"channel": ""}, "channel"),
        ({"timeout_s": None}, "timeout_s"),
        ({"headers": {"bad name": "v"}}, "not a header name"),
        ({"headers": {"key-bin": "v"}}, "not a header name"),
        ({"headers": {"key": "a\nb"}}, "not printable"),
        ({"key": ""}, "key: empty; .*None for a server without one"),
        ({"key": "größe"}, "key: not printable ASCII"),
        ({"key": "k", "headers": {"Authorization": "Basic x"}}, "key: .*already"),
    ],
)
@pytest.mark.parametrize("kind", [qc.Client, qc.AsyncClient])
def test_settings_that_cannot_work(kind: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(qc.InvalidRequest, match=words):
        kind(**settings)


@pytest.mark.parametrize("half", ["certificate", "key"])
def test_half_a_client_certificate(tmp_path: Any, half: Literal["certificate", "key"]) -> None:
    with pytest.raises(qc.InvalidRequest, match="together"):
        qc.Client(tls=qc.Tls(**{half: tmp_path / "x.pem"}))


def test_a_missing_authority_file(tmp_path: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match=r"cannot read .*ca\.pem"):
        qc.Client(tls=qc.Tls(ca=tmp_path / "ca.pem"))


def test_the_tree_is_as_its_docstring_draws_it() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (qc.errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+)  +", line):
            depth = len(found[1]) // 4
            above = [*above[:depth], found[2]]
            drawn[found[2]] = above[-2] if depth else "Exception"
    defined = {
        name: thing.__bases__[0].__name__
        for name, thing in vars(qc.errors).items()
        if isinstance(thing, type) and issubclass(thing, qc.QuorumError)
    }
    assert drawn == defined
    assert issubclass(qc.InvalidRequest, ValueError)


def test_every_error_of_a_call_is_public() -> None:
    assert {name for name in vars(qc.errors) if name[0].isupper()} <= set(qc.__all__)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "kein Platz",
        "Socket closed",
        "failed to connect",
        "protocol is restricted",
        "say [quorum:NO] more",
    ],
)
@pytest.mark.parametrize(("error", "calls"), [(qc.Overloaded, 3), (qc.Unavailable, 3)])
def test_a_refusal_of_our_own_is_known_by_its_code_whatever_its_words(
    triton: Any, make: Any, words: str, error: type[qc.QuorumError], calls: int
) -> None:
    triton.always = (UNAVAILABLE, f"in ensemble 'quorum', {with_code(error(words), 500)}")
    with pytest.raises(qc.Unavailable) as caught:
        make(triton.url).extract("t", ["a"])
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert f"[quorum:{error.code}]" not in str(caught.value)
    assert len(triton.requests) == calls


def test_a_server_without_codes_costs_retries_and_asks_nobody_twice(triton: Any, make: Any) -> None:
    triton.always = (UNAVAILABLE, "5 requests are being answered; retry later")
    with pytest.raises(qc.Disconnected, match="5 requests are being answered"):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_the_servers_own_error_is_named_by_its_code(triton: Any, make: Any) -> None:
    triton.always = (grpc.StatusCode.INTERNAL, "version 3 is damaged [quorum:WEIGHTS_INVALID]")
    words = "version 3 is damaged; look at the server's log of this time, request r-9$"
    with pytest.raises(qc.ServerError, match=words) as caught:
        make(triton.url).extract("t", ["a"], request_id="r-9")
    assert (caught.value.status, caught.value.cause) == ("INTERNAL", "WEIGHTS_INVALID")


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "extract",
        "extract_many",
        "extract_as_completed",
        "recommend",
        "recommend_many",
        "is_ready",
        "close",
    ],
)
def test_both_clients_take_the_same_arguments(name: str) -> None:
    blocking, awaited = (inspect.signature(getattr(kind, name)) for kind in (qc.Client, qc.AsyncClient))
    assert list(blocking.parameters.values()) == list(awaited.parameters.values())


def test_every_argument_is_documented() -> None:
    methods = (qc.Client.extract, qc.Client.extract_many, qc.Client.extract_as_completed, qc.Client.recommend)
    for documented in (*methods, qc.Client, qc.AsyncClient):
        for name in inspect.signature(documented).parameters:
            assert name == "self" or f"    {name}: " in (inspect.getdoc(documented) or ""), (documented, name)
