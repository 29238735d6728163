# SPDX-License-Identifier: Apache-2.0
"""The probe port and callers that misbehave; with a real server in ``tests/e2e/test_probe.py``."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from quorum.server import http
from quorum.server.http import ProbeServer
from quorum.server.probe import Pulse


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def read_to_end(caller: socket.socket) -> None:
    """Read until the other side closes the connection; a TimeoutError if it never does."""
    while caller.recv(100):
        pass


def test_liveness_and_readiness_are_told_with_a_status() -> None:
    alive, asked = [True], list[str]()

    def pulse(channel: str) -> Pulse:
        asked.append(channel)
        return Pulse(channel, channel == "quorum", 3, 1.5, "why")

    with ProbeServer("127.0.0.1", 0, ["quorum", "other"], pulse, lambda: alive[0]) as probes:
        assert get(probes.port, "/live") == (200, {"live": True})
        alive[0] = False
        assert get(probes.port, "/live?verbose") == (503, {"live": False})
        fine = {"channel": "quorum", "ready": True, "version": 3, "latency_ms": 1.5, "reason": "why"}
        assert get(probes.port, "/ready/quorum") == (200, fine)
        status, body = get(probes.port, "/ready")
        assert (status, body["ready"]) == (503, False)
        assert body["channels"] == [fine, fine | {"channel": "other", "ready": False}]
        assert asked == ["quorum", "other"], "a channel is asked once a second"
        status, body = get(probes.port, "/ready/nobody")
        assert status == 404
        assert "/ready/other" in body["error"]


def test_a_caller_that_does_not_wait_for_its_answer_leaves_no_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def pulse(channel: str) -> Pulse:
        asked.set()
        gone.wait(30)
        return Pulse(channel, True, 1, 1.0)

    with ProbeServer("127.0.0.1", 0, ["quorum"], pulse, lambda: True) as probes:
        caller = socket.create_connection(("127.0.0.1", probes.port))
        caller.sendall(b"GET /ready/quorum HTTP/1.0\r\n\r\n")
        assert asked.wait(30)
        # With a reset, as by an orchestrator whose own time is up.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        gone.set()
    assert capfd.readouterr().err == ""


def test_what_is_a_bug_is_still_told(capfd: pytest.CaptureFixture[str]) -> None:
    def pulse(channel: str) -> Pulse:
        raise KeyError(channel)

    with (
        ProbeServer("127.0.0.1", 0, ["quorum"], pulse, lambda: True) as probes,
        socket.create_connection(("127.0.0.1", probes.port)) as caller,
    ):
        caller.sendall(b"GET /ready/quorum HTTP/1.0\r\n\r\n")
        assert caller.recv(100) == b""
    assert "KeyError" in capfd.readouterr().err


@pytest.mark.parametrize("ends", ["in time", "by the close"])
def test_a_caller_that_sends_bit_by_bit_holds_nothing_up(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_REQUEST_S", 0.0 if ends == "in time" else 3600.0)
    with ProbeServer("127.0.0.1", 0, [], lambda _: Pulse("", True, 1, 1.0), lambda: True) as probes:
        caller = socket.create_connection(("127.0.0.1", probes.port), timeout=30)
        caller.sendall(b"GET /live HTTP/1.0\r\nX: ")
        if ends == "in time":
            read_to_end(caller)
        else:
            assert get(probes.port, "/live")[0] == 200
    read_to_end(caller)
    assert probes._callers == {}


def test_callers_who_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_CALLERS", 8)
    monkeypatch.setattr(http, "_REQUEST_S", 3600.0)
    with ProbeServer("127.0.0.1", 0, [], lambda _: Pulse("", True, 1, 1.0), lambda: True) as probes:
        silent = []
        for _ in range(40):
            silent.append(socket.create_connection(("127.0.0.1", probes.port), timeout=30))
            assert get(probes.port, "/live")[0] == 200
            assert len(probes._callers) <= 8
        for caller in silent[:20]:
            read_to_end(caller)
        for caller in silent:
            caller.close()
