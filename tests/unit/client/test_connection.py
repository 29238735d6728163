# SPDX-License-Identifier: Apache-2.0
"""A server that is full, late, far away, cut off or gone: what is sent again, and how long is waited."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from support.both_clients import FULL, UNAVAILABLE

import quorum_client as qc
from quorum_client._attempts import Attempts


def test_nobody_there(nowhere: str, make: Any) -> None:
    with pytest.raises(qc.Unreachable, match=f"no connection to {nowhere}"):
        make(nowhere, retries=False).extract("t", ["a"])


def test_no_such_host(make: Any) -> None:
    with pytest.raises(qc.Unreachable):
        make("host.invalid:8001", retries=False, timeout_s=10).extract("t", ["a"])


def test_a_full_server_is_tried_three_times(triton: Any, make: Any) -> None:
    triton.faults = [FULL, FULL]
    assert make(triton.url).extract("t", ["a"])["a"].value == "v-a"
    assert len(triton.requests) == 3


@pytest.mark.parametrize(("retries", "calls"), [(True, 3), (False, 1)])
def test_retries_end_and_can_be_switched_off(triton: Any, make: Any, retries: bool, calls: int) -> None:
    triton.always = FULL
    with pytest.raises(qc.Overloaded):
        make(triton.url, retries=retries).extract("t", ["a"])
    assert len(triton.requests) == calls


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_what_may_have_run_is_not_tried_again(triton: Any, make: Any, code: grpc.StatusCode) -> None:
    triton.always = (code, "broken")
    with pytest.raises(qc.QuorumError):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_a_server_that_comes_after_an_attempt_is_found(
    nowhere: str, come: Callable[[], None], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Attempts.pause_s

    def come_late(self: Any, *failed: Any) -> float | None:
        come()
        return pause(self, *failed)

    monkeypatch.setattr(Attempts, "pause_s", come_late)
    # Two pauses of at least 0.08 s and 0.24 s lie between the three attempts.
    assert make(nowhere).extract("t", ["a"])["a"].value == "v-a"


def test_the_deadline_holds(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0
    with pytest.raises(qc.DeadlineExceeded, match=r"within 0\.2 s"):
        make(triton.url).extract("t", ["a"], timeout_s=0.2)


def test_a_call_that_broke_off_is_not_sent_again(triton: Any, make: Any) -> None:
    triton.always = (UNAVAILABLE, "Socket closed")
    with pytest.raises(qc.Disconnected, match="members may have been asked"):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_a_connection_that_is_cut_under_a_call(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0
    with Wire(triton.url) as wire:
        cutter = threading.Thread(target=lambda: (wait_for(lambda: triton.in_flight == 1), wire.cut()))
        cutter.start()
        with pytest.raises(qc.Disconnected, match="members may have been asked"):
            make(wire.url).extract("t", ["a"])
        cutter.join()
    assert len(triton.requests) == 1


def test_a_server_that_is_far_away_is_reached(triton: Any, make: Any) -> None:
    """A busy server, or one on another continent, takes its time to answer a new connection."""
    with Wire(triton.url, accept_s=0.6) as wire:
        assert make(wire.url, retries=False).extract("t", ["a"]).weights_version == 7


def test_a_listener_that_never_answers_is_unreachable(make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = make(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=3.0, retries=False)
        with pytest.raises(qc.Unreachable):
            client.extract("t", ["a"])


class Wire:
    """A way to a server that can be cut, and that takes a while before its first byte."""

    def __init__(self, url: str, accept_s: float = 0.0) -> None:
        self._accept_s = accept_s
        host, _, port = url.rpartition(":")
        self._target = (host, int(port))
        self._sockets: list[socket.socket] = [socket.create_server(("127.0.0.1", 0))]
        self.url = f"127.0.0.1:{self._sockets[0].getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._sockets[0].accept()
                time.sleep(self._accept_s)
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)

    def cut(self) -> None:
        for sock in self._sockets[1:]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for sock in self._sockets:
            sock.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_client_that_is_closed_between_two_attempts_says_so(
    triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton.always = FULL
    client = qc.Client(triton.url)
    monkeypatch.setattr("quorum_client._sync_calls.time.sleep", lambda _: client.close())
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.extract("t", ["a"])

    async def ask() -> None:
        other = qc.AsyncClient(triton.url)

        async def close(_: float) -> None:
            await other.close()

        monkeypatch.setattr("quorum_client._aio_calls.asyncio.sleep", close)
        await other.extract("t", ["a"])

    with pytest.raises(RuntimeError, match="this client is closed"):
        asyncio.run(ask())
