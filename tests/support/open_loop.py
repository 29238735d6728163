# SPDX-License-Identifier: Apache-2.0
"""Requests at a fixed rate, whatever becomes of them: when a server answers again after a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from support.deployment import ATTRIBUTES, title
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
]


class OpenLoop:
    """Requests that were sent: (sent, ended, error or ""), on the monotonic clock."""

    def __init__(self, url: str, per_s: float, timeout_s: float = 20.0) -> None:
        self.replies: list[tuple[float, float, str]] = []
        self._channel = grpc.insecure_channel(url, options=_RECONNECT)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._per_s, self._timeout_s = per_s, timeout_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        attributes = [a.encode() for a in ATTRIBUTES]
        begin, sent, pending = time.monotonic(), 0, []
        while not self._stopping.wait(max(0, begin + sent / self._per_s - time.monotonic())):
            text = bytes_tensor([title(sent % 24).encode()])
            request = grpc_request("quorum", text, attributes, b"shoes" if sent % 2 else b"")
            at = time.monotonic()
            future = self._stub.ModelInfer.future(request, timeout=self._timeout_s)
            future.add_done_callback(partial(self._ended, at))
            pending.append(future)
            sent += 1
        # What a dead step holds would be waited for until its time is up.
        for future in pending:
            future.cancel()

    def _ended(self, at: float, future: Any) -> None:
        if future.cancelled():
            return
        error = future.exception()
        why = "" if error is None else f"{error.code().name}: {error.details()}"
        self.replies.append((at, time.monotonic(), why))

    def answered_after(self, at: float) -> float | None:
        """Seconds from ``at`` until a request that was sent after it was answered."""
        ended = [end for sent, end, error in self.replies if sent > at and not error]
        return min(ended) - at if ended else None

    def failed_after(self, at: float) -> dict[float, str]:
        """Requests that were sent after ``at`` and failed: seconds from ``at`` -> error."""
        return {round(sent - at, 3): error for sent, _, error in self.replies if sent > at and error}

    def wait_answered(self, at: float, seconds: float) -> float:
        """Wait until a request that was sent after ``at`` is answered; seconds from ``at``."""
        while (after := self.answered_after(at)) is None:
            assert time.monotonic() - at < seconds, self.replies[-3:]
            time.sleep(0.02)
        return after


@contextmanager
def open_loop(url: str, per_s: float) -> Iterator[OpenLoop]:
    """Send ``per_s`` requests a second during a block."""
    loop = OpenLoop(url, per_s)
    loop._thread.start()
    try:
        yield loop
    finally:
        loop._stopping.set()
        loop._thread.join()
        loop._channel.close()
