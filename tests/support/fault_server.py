# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server over real sockets that answers in a named way, with or without a fault."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "made-up"
USAGE = {"prompt_tokens": 100, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 64}}
HUGE = 1 << 22
FAULTS = (
    *("429", "429 with retry-after", "429 with a date", "429 in ms", "500", "503 with retry-after", "hang"),
    *("cut stream", "reset", "wrong json", "wrong schema", "refusal", "filtered", "empty choices", "huge"),
    *(
        "huge error",
        "slow bytes",
        "error in stream",
        "cut by length",
        "redirect",
        "401",
        "404",
        "400",
        "endless",
        "429 without a body",
        "no end",
    ),
)
"""What :attr:`FaultServer.fault` may name."""


class FaultServer:
    """Answers chat completions; ``fault`` says how, for each request anew.

    Attributes:
        fault: One of :data:`FAULTS`; "" for a right answer.
        share: Share of the requests that get the fault, evenly spread.
        values: What it answers, by key of the schema; others get the first allowed value, or "red".
        keeps_schema: Whether answers keep to a schema that is sent; else they are wrapped in prose.
        refuses: Names of fields that it refuses with 400.
        limit: Most requests in ``window_s``, more get 429; None: no limit.
        requests: The bodies received, with their headers under "headers" and the time under "at".
        delay_s: Before each answer.
        closed_early: Streams that clients closed before their end.
    """

    def __init__(self) -> None:
        self.fault, self.share = "", 1.0
        self.values: dict[str, str] = {}
        self.keeps_schema, self.gives_scores, self.streams = True, True, True
        self.goes_on = False
        self.refuses: set[str] = set()
        self.limit: int | None = None
        self.window_s = 60.0
        self.retry_after = "1"
        self.delay_s = 0.0
        self.redirect_to = ""
        self.requests: list[dict[str, Any]] = []
        self.statuses: Counter[int] = Counter()
        self.closed_early = 0
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._count = 0

    def note(self, request: dict[str, Any]) -> str:
        """Count a request; the fault that it gets."""
        with self._lock:
            now = time.monotonic()
            recent = sum(1 for one in self.requests if one["at"] > now - self.window_s)
            self.requests.append({**request, "at": now})
            self._count += 1
            struck = int(self._count * self.share) > int((self._count - 1) * self.share)
            if self.limit is not None and recent >= self.limit:
                return "429 with retry-after"
            return self.fault if struck else ""

    def text(self, request: Mapping[str, Any]) -> str:
        """The right answer to a request."""
        schema = request.get("response_format", {}).get("json_schema", {}).get("schema", {})
        names = list(schema.get("properties", self.values))
        found = {
            name: self.values.get(name) or schema["properties"][name].get("enum", ["red"])[0]
            for name in names
        }
        text = json.dumps(found, ensure_ascii=False)
        if not schema or self.keeps_schema:
            return text
        return f"Sure! Here it is:\n```json\n{text}\n```\nAnything else?"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: FaultServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = json.loads(body)
        request["headers"] = dict(self.headers)
        request["path"] = self.path
        fault = self.faults.note(request)
        if self.faults.delay_s:
            self.faults.stop.wait(self.faults.delay_s)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(request, fault)

    def _answer(self, request: dict[str, Any], fault: str) -> None:
        named = next((name for name in self.faults.refuses if name in json.dumps(request)), None)
        if named is not None:
            self._error(400, f"Unsupported parameter: {named!r} is not supported with this model.")
            return
        if fault in _STATUSES:
            self._status(fault)
            return
        if fault == "hang":
            self.faults.stop.wait(60)
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
        elif fault == "wrong json":
            self._send(200, b'{"choices": [{"message"', "application/json")
        elif fault == "429 without a body":
            self._hanging_error()
        elif fault == "huge error":
            self._send(500, b"x" * HUGE, "text/plain")
        elif self.faults.streams:
            self._stream(request, fault)
        else:
            self._whole(request, fault)

    def _status(self, fault: str) -> None:
        status, headers = _STATUSES[fault]
        given = dict(headers)
        if given.get("retry-after") == "?":
            given["retry-after"] = self.faults.retry_after
        if fault == "redirect":
            given["location"] = self.faults.redirect_to
        key = self.headers.get("authorization", "")
        self._error(status, f"made-up fault; you sent {key}", given)

    def _hanging_error(self) -> None:
        """429 with ``Retry-After``, and half of a body."""
        self.send_response(429)
        self.send_header("retry-after", self.faults.retry_after)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b"too much")
        self.faults.stop.wait(60)

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps({"error": {"message": message}}).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.faults.statuses[status] += 1
        self.send_response(status)
        for name, value in {"content-type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _whole(self, request: dict[str, Any], fault: str) -> None:
        if fault == "error in stream":
            self._send(200, b'{"error": {"message": "the engine died"}}', "application/json")
            return
        choices = [] if fault == "empty choices" else [self._choice(request, fault)]
        self._send(200, json.dumps({"choices": choices, "usage": USAGE}).encode(), "application/json")

    def _choice(self, request: dict[str, Any], fault: str) -> dict[str, Any]:
        text = self._said(request, fault)
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if fault == "refusal":
            choice["message"] |= {"content": None, "refusal": "I cannot help with that."}
        if request.get("logprobs") and self.faults.gives_scores:
            choice["logprobs"] = {"content": _scores(text)}
        return choice

    def _said(self, request: dict[str, Any], fault: str) -> str:
        if fault == "wrong schema":
            return '{"something": "else"}'
        text = self.faults.text(request)
        return text[: len(text) // 2] if fault in ("cut by length", "no end") else text

    def _stream(self, request: dict[str, Any], fault: str) -> None:
        self.faults.statuses[200] += 1
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("set-cookie", "session=made-up; Path=/")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if fault == "empty choices":
            self._event({"choices": []})
            self._end()
            return
        if fault in ("huge", "endless"):
            self._flood(*(("la ", 0.01) if fault == "endless" else ()))
            return
        text = self._said(request, fault)
        for number, piece in enumerate(_pieces(text)):
            self._event({"choices": [self._delta(request, piece)]})
            if fault == "cut stream" and number == 1:
                self.close_connection = True
                return
            if fault == "slow bytes" and self.faults.stop.wait(0.5):
                return
            if fault == "error in stream":
                self._event({"error": {"message": "the engine died"}})
                return
        if self.faults.goes_on:
            self._flood(" and so on", 0.01)
            return
        reason = {"filtered": "content_filter", "cut by length": "length", "no end": "length"}.get(
            fault, "stop"
        )
        delta = {"refusal": "I cannot help with that."} if fault == "refusal" else {}
        self._event({"choices": [{"delta": delta, "finish_reason": reason}]})
        if fault == "no end":
            self.faults.stop.wait(60)
            self.close_connection = True
            return
        if request.get("stream_options", {}).get("include_usage"):
            self._event({"choices": [], "usage": USAGE})
        self._end()

    def _delta(self, request: dict[str, Any], piece: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"delta": {"content": piece}, "finish_reason": None}
        if request.get("logprobs") and self.faults.gives_scores:
            choice["logprobs"] = {"content": _scores(piece)}
        return choice

    def _flood(self, piece: str = "x" * 65_536, pause_s: float = 0.0) -> None:
        """Go on until the client closes the stream."""
        with suppress(OSError):
            while not self.faults.stop.wait(pause_s):
                self._event({"choices": [{"delta": {"content": piece}}]})
        self.faults.closed_early += 1
        self.close_connection = True

    def _event(self, data: Mapping[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n")

    def _end(self) -> None:
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


_STATUSES: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {}),
    "429 with retry-after": (429, {"retry-after": "?"}),
    "429 with a date": (429, {"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}),
    "429 in ms": (429, {"retry-after-ms": "1500", "retry-after": "60"}),
    "500": (500, {}),
    "503 with retry-after": (503, {"retry-after": "?"}),
    "401": (401, {}),
    "404": (404, {}),
    "400": (400, {}),
    "redirect": (307, {}),
}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 5):
        yield text[start : start + 5]


def _scores(text: str) -> list[dict[str, Any]]:
    """One token per character, the bytes of which may be those of a part only."""
    return [{"token": c, "logprob": -0.125, "bytes": list(c.encode())} for c in text]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that leave, and TLS that fails, are no news."""


@contextmanager
def fault_server(
    certificates: Path | None = None, name: str = "server", port: int = 0
) -> Iterator[tuple[FaultServer, str]]:
    """A server and its base URL; with TLS by ``name`` of :func:`make_certificates`."""
    faults = FaultServer()
    handler = type("Handler", (_Handler,), {"faults": faults})
    server = _Server(("127.0.0.1", port), handler)
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    scheme = "https" if certificates else "http"
    try:
        yield faults, f"{scheme}://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        faults.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificates(folder: Path) -> Path:
    """An authority ``ca.pem``, a server of 127.0.0.1 that it signed, and one that signed itself."""
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run: Callable[..., None] = lambda *a: _openssl(folder, *a)  # noqa: E731
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    run("req", "-x509", *new, "-keyout", "stranger.key", "-out", "stranger.pem", "-days", "2",
        "-subj", "/CN=stranger", *names)  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    run("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return folder


has_openssl = shutil.which("openssl") is not None


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
