# SPDX-License-Identifier: Apache-2.0
"""What the HTTP half refuses before any server is asked: statuses, forms of errors, slow and many callers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from support.certificates import NO_OPENSSL, make_certificates
from support.http_half import exchange, gateway_of, request_of, serving
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway import room
from quorum.gateway.http import connection
from quorum.gateway.settings import TlsFiles
from quorum_contract import CANCEL

NESTED = b"[" * 130_000
EXTRACT, INFER = "/v1/extract", "/v2/models/quorum/infer"


def served(folder: Path, work: Callable[[int], Awaitable[Any]], **changed: Any) -> Any:
    async def run() -> Any:
        async with serving(folder, **changed) as port:
            return await work(port)

    return asyncio.run(run())


def answer(raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of an answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body else None


REFUSED = {
    "no key": (request_of("POST", EXTRACT, b"{}", key=None), 401, "UNAUTHENTICATED"),
    "wrong key": (request_of("POST", EXTRACT, b"{}", key="x"), 401, "UNAUTHENTICATED"),
    "two keys": (
        request_of("POST", EXTRACT, b"{}", headers={"Authorization": "Bearer x"}), 401, "UNAUTHENTICATED",
    ),
    "no path": (request_of("GET", "/admin"), 404, "HTTP_REFUSED"),
    "no channel": (request_of("GET", "/v2/models/quorum_gate"), 404, "CHANNEL_NOT_FOUND"),
    "another method": (request_of("DELETE", EXTRACT), 405, "HTTP_REFUSED"),
    "a form": (
        request_of("POST", EXTRACT, b"a=1", headers={"content-type": "application/x-www-form-urlencoded"}),
        415, "HTTP_REFUSED",
    ),
    "compressed": (
        request_of("POST", EXTRACT, b"{}", headers={"content-encoding": "gzip"}), 415, "HTTP_REFUSED",
    ),
    "binary tensors": (
        request_of("POST", INFER, b"{}", headers={"inference-header-content-length": "2"}),
        415, "HTTP_REFUSED",
    ),
    "too large": (
        request_of("POST", EXTRACT, b"", headers={"content-length": "800000"}), 413, "HTTP_REFUSED",
    ),
    "far too large": (
        request_of("POST", EXTRACT, b"", headers={"content-length": "9" * 19}), 413, "HTTP_REFUSED",
    ),
    "no JSON": (request_of("POST", EXTRACT, b"text=shoe"), 400, "HTTP_REFUSED"),
    "nested": (request_of("POST", EXTRACT, b'{"text":' + NESTED), 422, "INVALID_REQUEST"),
    "not of the contract": (request_of("POST", EXTRACT, b'{"text":" "}'), 422, "INVALID_REQUEST"),
    "a field too many": (request_of("POST", EXTRACT, b'{"text":"a","k":1}'), 422, "INVALID_REQUEST"),
    "nothing asked": (request_of("POST", EXTRACT, b"{}"), 422, "INVALID_REQUEST"),
    "another kind": (
        request_of("POST", EXTRACT, b'{"text":"a","channel":"quorum_recommend"}'), 422, "INVALID_REQUEST",
    ),
    "no time": (
        request_of("POST", EXTRACT, b'{"text":"a"}', headers={"x-request-timeout-ms": "-1"}), 422,
        "INVALID_REQUEST",
    ),
    "the server is away": (request_of("POST", EXTRACT, b'{"text":"a"}'), 503, "UNAVAILABLE"),
    "not ready": (request_of("GET", "/v2/health/ready", key=None), 503, "UNAVAILABLE"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "HTTP_REFUSED"),
    "smuggled": (
        request_of("POST", EXTRACT, b"{}", headers={"transfer-encoding": "chunked"}), 400, "HTTP_REFUSED",
    ),
    "endless headers": (b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000, 400, "HTTP_REFUSED"),
}  # fmt: skip


def test_what_is_refused_has_a_status_and_a_code(tmp_path: Path) -> None:
    async def all_of_them(port: int) -> dict[str, bytes]:
        return {name: await exchange(port, raw) for name, (raw, _, _) in REFUSED.items()}

    found = {name: answer(raw) for name, raw in served(tmp_path, all_of_them).items()}
    assert {name: (status, body["code"]) for name, (status, _, body) in found.items()} == {
        name: (status, code) for name, (_, status, code) in REFUSED.items()
    }
    for status, headers, body in found.values():
        assert headers["content-type"] == "application/problem+json"
        assert body["status"] == status
        assert body["detail"]
        assert ("retry-after" in headers) is (status == 503)
        assert ("www-authenticate" in headers) is (status == 401)
    assert found["no channel"][2]["error"] == found["no channel"][2]["detail"]


def chat(**fields: Any) -> bytes:
    body = {"model": "quorum", "messages": [{"role": "user", "content": "a shoe"}], **fields}
    return request_of("POST", "/v1/chat/completions", json.dumps(body).encode())


IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
CHATS = {
    "n": (chat(n=2), 400, "PARAMETER_UNSUPPORTED", "n"),
    "tools": (chat(tools=[{"type": "function"}]), 400, "PARAMETER_UNSUPPORTED", "tools"),
    "logprobs": (chat(logprobs=True), 400, "PARAMETER_UNSUPPORTED", "logprobs"),
    "image": (
        chat(messages=[{"role": "user", "content": [IMAGE]}]), 400, "PARAMETER_UNSUPPORTED", "messages",
    ),
    "no user": (chat(messages=[{"role": "system", "content": "a"}]), 400, "INVALID_REQUEST", None),
    "no text": (chat(messages=[{"role": "user", "content": " "}]), 400, "INVALID_REQUEST", None),
    "no model": (chat(model="gpt-4o"), 404, "CHANNEL_NOT_FOUND", None),
    "an object": (
        chat(response_format={"type": "json_schema", "json_schema": {
            "name": "a", "schema": {"type": "object", "properties": {"a": {"type": "object"}}}}}),
        400, "INVALID_REQUEST", None,
    ),
    "nested": (
        request_of("POST", "/v1/chat/completions", b'{"x":' + NESTED), 400, "HTTP_REFUSED", None,
    ),
    "away": (chat(), 503, "UNAVAILABLE", None),
    "no key": (request_of("GET", "/v1/models", key=None), 401, "UNAUTHENTICATED", None),
}  # fmt: skip


def test_errors_on_paths_of_openai_have_its_form(tmp_path: Path) -> None:
    async def all_of_them(port: int) -> dict[str, bytes]:
        return {name: await exchange(port, raw) for name, (raw, *_) in CHATS.items()}

    for name, raw in served(tmp_path, all_of_them).items():
        status, _, body = answer(raw)
        error = body["error"]
        assert (status, error["code"], error["param"]) == CHATS[name][1:], name
        assert error["message"]
        assert error["type"].endswith("error")


def test_a_body_without_a_length_is_bounded_too(tmp_path: Path) -> None:
    async def send(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = request_of("POST", EXTRACT, headers={"transfer-encoding": "chunked"})
        writer.write(head.replace(b"content-length: 0\r\n", b"").replace(b"connection: close\r\n", b""))
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        for _ in range(16):
            writer.write(chunk)
        found = await reader.readuntil(b"}")
        # The rest is read and dropped, so that the caller sees the answer; then the connection goes on.
        writer.write(b"0\r\n\r\n" + request_of("GET", "/v2/health/live"))
        found += await reader.read(-1)
        writer.close()
        return found

    first, second = served(tmp_path, send).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"413")
    assert second.startswith(b"200")


def test_slow_callers_are_closed_and_do_not_keep_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[connection.Connection]()

    class Limited(connection.Connection):
        def connection_made(self, transport: asyncio.Transport) -> None:
            # The last one is that of a healthy caller.
            self.request_s = 0.3 if len(made) < 20 else 60.0
            made.append(self)
            super().connection_made(transport)

    monkeypatch.setattr(connection, "Connection", Limited)
    slow = [b"GET /v2", request_of("POST", EXTRACT, b"", headers={"content-length": "100"})]

    async def hold(port: int) -> tuple[list[bytes], bytes]:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for at, (_, writer) in enumerate(opened):
            writer.write(slow[at % 2])
        live = await exchange(port, request_of("GET", "/v2/health/live", key=None))
        for _, writer in opened:
            # Bytes that drip do not help.
            writer.write(b"x")
        return [await ended(reader) for reader, _ in opened], live

    async def ended(reader: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(reader.read(-1), 60)
        except ConnectionError:
            return b""

    held, live = served(tmp_path, hold)
    assert held == [b""] * 20
    assert len(made) == 21
    assert answer(live)[0] == 200


def test_one_connection_too_many_takes_the_place_of_the_oldest_idle_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)

    async def crowd(port: int) -> tuple[list[bool], bytes]:
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(6)))
        live = await exchange(port, request_of("GET", "/v2/health/live", key=None))
        while sum(is_over(reader) for reader, _ in opened) < 3:  # noqa: ASYNC110  (streams have no event)
            await asyncio.sleep(0.01)
        return [is_over(reader) for reader, _ in opened], live

    def is_over(reader: asyncio.StreamReader) -> bool:
        return reader.at_eof() or reader.exception() is not None

    over, live = served(tmp_path, crowd)
    assert sum(over) == 3
    assert answer(live)[0] == 200


@NO_OPENSSL
def test_connections_count_before_their_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else strangers hold as many as the gateway has memory for, each for the time of a handshake."""
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)
    made = make_certificates(tmp_path)
    tls = TlsFiles(str(made / "server.pem"), str(made / "server.key"))

    async def crowd(port: int) -> bytes:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        authority = ssl.create_default_context(cafile=str(made / "ca.pem"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority)
        for silent, _ in opened[:17]:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(silent.read(), 60) == b""
        writer.write(request_of("GET", "/v2/health/live"))
        found = await reader.read(-1)
        for _, other in (*opened, (reader, writer)):
            other.close()
        return found

    monkeypatch.setattr(connection, "_HANDSHAKE_S", 600)
    assert answer(served(tmp_path, crowd, tls=tls))[0] == 200


def test_the_halves_share_the_files_that_their_process_may_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "raise_open_files", lambda: 1064)

    async def count(**addresses: str) -> int:
        async with gateway_of(tmp_path, **addresses) as gateway:
            return room.most_connections(gateway.settings, 4096)

    assert asyncio.run(count(http="a:1")) == 1000
    assert asyncio.run(count(http="a:1", grpc="a:2")) == 500


def test_the_id_of_a_request_comes_back_unless_it_would_harm_the_log(tmp_path: Path) -> None:
    async def ask(port: int) -> list[bytes]:
        ids = ["abc-1", "a" * 500, "a\tb"]
        return [
            await exchange(port, request_of("GET", "/v2/health/live", headers={"x-request-id": given}))
            for given in ids
        ]

    found = [answer(raw)[1]["x-request-id"] for raw in served(tmp_path, ask)]
    assert found[0] == "abc-1"
    assert [len(one) for one in found[1:]] == [32, 32]


def test_a_request_in_flight_is_answered_before_it_stops(tmp_path: Path) -> None:
    async def stop(target: str) -> bytes:
        async with serving(tmp_path, target=target, timeout_s=1.5) as port:
            idle = await asyncio.open_connection("127.0.0.1", port)
            asked = asyncio.create_task(exchange(port, request_of("POST", EXTRACT, b'{"text":"a"}')))
            held, _ = await asyncio.to_thread(silent.accept)
        idle[1].close()
        held.close()
        return await asked

    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = asyncio.run(stop(f"127.0.0.1:{silent.getsockname()[1]}"))
    assert answer(found)[0] == 504


def test_what_the_drain_leaves_is_answered_and_cancelled_at_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = list[Any]()

    class Held(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            async def hold(raw: bytes, __: Any) -> bytes:
                seen.append(pb.ModelInferRequest.FromString(raw))
                asked.set()
                if CANCEL not in seen[-1].parameters:
                    await free.wait()
                return b""

            return grpc.unary_unary_rpc_method_handler(hold)

    asked, free = asyncio.Event(), asyncio.Event()

    async def stop() -> bytes:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Held(),))
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with serving(tmp_path, target=target, timeout_s=60.0, max_timeout_s=60.0, drain_s=1.0) as port:
            calling = asyncio.create_task(exchange(port, request_of("POST", EXTRACT, b'{"text":"a"}')))
            await asked.wait()
        free.set()
        found = await calling
        await server.stop(None)
        return found

    status, headers, body = answer(asyncio.run(stop()))
    assert (status, body["code"], headers["retry-after"]) == (503, "UNAVAILABLE", "1")
    assert [CANCEL in request.parameters for request in seen] == [False, True]
    assert "exception" not in caplog.text


def test_a_silent_server_is_not_ready_and_no_channel_is_listed(tmp_path: Path) -> None:
    """Nor does a full gateway count as not ready: health is asked without a place."""

    async def look(target: str) -> list[bytes]:
        paths = ("/v2/health/ready", "/v1/models")
        async with serving(tmp_path, target=target, max_calls=0) as port:
            return [await exchange(port, request_of("GET", path)) for path in paths]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        ready, models = map(answer, asyncio.run(look(f"127.0.0.1:{silent.getsockname()[1]}")))
    assert (ready[0], ready[2]["code"]) == (503, "UNAVAILABLE")
    assert (models[0], models[2]["data"]) == (200, [])


def test_answers_do_not_wait_for_acknowledgements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body are two small writes: with Nagle's algorithm the second waits 40 ms for the caller's."""
    at_once = list[int]()

    class Watched(connection.Connection):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            sock = transport.get_extra_info("socket")
            at_once.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(connection, "Connection", Watched)
    served(tmp_path, lambda port: exchange(port, request_of("GET", "/v2/health/live")))
    assert at_once == [1]
