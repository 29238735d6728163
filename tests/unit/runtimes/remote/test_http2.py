# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 is spoken where a server offers it: many questions at once over one connection."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from support.fault_server import USAGE, has_openssl, make_certificates
from support.hf_members import ask
from support.openai_members import member, question

from quorum.runtimes.base import Generated

pytestmark = pytest.mark.skipif(not has_openssl, reason="no openssl on this machine")
QUESTIONS = 6


class Http2Server:
    """Answers once so many requests are open; counts connections."""

    def __init__(self, together: int) -> None:
        self.connections, self.paths = 0, list[str]()
        self._together = together

    def serve(self, connection: ssl.SSLSocket) -> None:
        self.connections += 1
        http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        waiting: list[int] = []
        while received := connection.recv(65_536):
            for event in http2.receive_data(received):
                if isinstance(event, RequestReceived):
                    self.paths.append(dict(event.headers)[":path"])
                elif isinstance(event, StreamEnded):
                    waiting.append(event.stream_id)
            if len(waiting) == self._together:
                for stream in waiting:
                    http2.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
                    http2.send_data(stream, _body(), end_stream=True)
                waiting.clear()
            connection.sendall(http2.data_to_send())


def _body() -> bytes:
    answer = {
        "message": {"content": '{"color": "red", "brand": "x", "gender": "men"}'},
        "finish_reason": "stop",
    }
    return json.dumps({"choices": [answer], "usage": USAGE}).encode()


@contextmanager
def serving(certificates: Path, server: Http2Server) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.set_alpn_protocols(["h2", "http/1.1"])

    def run(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
                connection = context.wrap_socket(plain, server_side=True)
            except OSError:
                return
            threading.Thread(target=_quietly, args=(server, connection), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, args=(listener,), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        # A thread that waits in accept() is not woken by close().
        listener.shutdown(socket.SHUT_RDWR)


def _quietly(server: Http2Server, connection: ssl.SSLSocket) -> None:
    with connection:
        try:
            server.serve(connection)
        except OSError:
            return


def test_questions_share_a_connection(tmp_path: Path) -> None:
    server = Http2Server(QUESTIONS)
    make_certificates(tmp_path)
    with serving(tmp_path, server) as url, member(url, ca_file="ca.pem", root=tmp_path) as runtime:
        replies = ask(runtime, [question("a shoe") for _ in range(QUESTIONS)])
    assert all(isinstance(reply, Generated) for reply in replies), replies
    assert server.connections == 1
    assert server.paths == ["/v1/chat/completions"] * QUESTIONS
