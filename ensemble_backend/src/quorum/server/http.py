# SPDX-License-Identifier: Apache-2.0
"""Serve a few small pages over plain HTTP: liveness and readiness, for orchestrators, and metrics."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from quorum.server.probe import Pulse

_FRESH_S = 1.0
_REQUEST_S = 5.0
_MOST_CALLERS = 64


class Page(NamedTuple):
    """What is sent for a path."""

    status: HTTPStatus
    content_type: str
    body: bytes


class PageServer(ThreadingHTTPServer):
    """Serves pages to few callers, on a thread of its own.

    Port 0 means a free one, see :attr:`port`; one that is taken is an OSError. A caller that takes more than
    five seconds for its request is cut off; where many are connected, the oldest is, so that a caller who
    sends its request at once is answered, however many others hold connections.
    """

    # Joined on close: no thread stays inside gRPC when the process ends.
    daemon_threads = False

    def __init__(self, host: str, port: int, name: str) -> None:
        # Connection -> when it was opened.
        self._callers: dict[Any, float] = {}
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._thread.start()

    @abstractmethod
    def page(self, path: str, accept: str) -> Page:
        """The page at a path, in a form that the caller accepts."""

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server_port

    def close(self) -> None:
        """Answer whose request is complete, then stop."""
        self.shutdown()
        self._cut_off(time.monotonic())
        self.server_close()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a caller on a thread, as long as there are not too many."""
        for oldest in [*self._callers][: -_MOST_CALLERS // 2]:
            _stop_reading(oldest)
        if len(self._callers) >= _MOST_CALLERS:
            self.shutdown_request(request)
            return
        self._callers[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._callers.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off callers who send a request bit by bit; called twice a second."""
        self._cut_off(time.monotonic() - _REQUEST_S)

    def _cut_off(self, opened_before: float) -> None:
        for request, opened in [*self._callers.items()]:
            if opened <= opened_before:
                _stop_reading(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that disconnect before the response; report anything else, which is a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class ProbeServer(PageServer):
    """Serves ``/live``, ``/ready`` (all channels) and ``/ready/CHANNEL``: 200 or 503 and a line of JSON.

    Results are cached: a channel is probed, by ``pulse``, at most once a second. ``live`` says whether the
    server should keep running.
    """

    def __init__(
        self,
        host: str,
        port: int,
        channels: Sequence[str],
        pulse: Callable[[str], Pulse],
        live: Callable[[], bool],
    ) -> None:
        self._channels = {channel: _Shared(channel, pulse) for channel in channels}
        self._live = live
        super().__init__(host, port, "quorum-probes")

    def page(self, path: str, accept: str) -> Page:
        """The line of JSON at a path."""
        status, body = self.answer(path)
        return Page(status, "application/json", (json.dumps(body) + "\n").encode())

    def answer(self, path: str) -> tuple[HTTPStatus, Mapping[str, Any]]:
        """Status and body of the response to a request for ``path``."""
        match path.strip("/").split("/"):
            case ["live"]:
                live = self._live()
                return _status(live), {"live": live}
            case ["ready"]:
                pulses = [shared.take() for shared in self._channels.values()]
                ready = all(pulse.ready for pulse in pulses)
                return _status(ready), {"ready": ready, "channels": [asdict(pulse) for pulse in pulses]}
            case ["ready", channel] if channel in self._channels:
                pulse = self._channels[channel].take()
                return _status(pulse.ready), asdict(pulse)
        known = ["/live", "/ready", *(f"/ready/{channel}" for channel in self._channels)]
        return HTTPStatus.NOT_FOUND, {"error": f"no {path}; ask {', '.join(known)}"}


def _stop_reading(request: Any) -> None:
    # What it has sent can still be answered.
    with suppress(OSError):
        request.shutdown(socket.SHUT_RD)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    # Of each read and write.
    timeout = _REQUEST_S

    def do_GET(self) -> None:
        page = self.server.page(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every few seconds."""


class _Shared:
    """Caches one channel's pulse for a second; concurrent callers share it."""

    def __init__(self, channel: str, pulse: Callable[[str], Pulse]) -> None:
        self._channel = channel
        self._pulse = pulse
        self._lock = threading.Lock()
        self._last: tuple[float, Pulse] | None = None

    def take(self) -> Pulse:
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _FRESH_S:
                pulse = self._pulse(self._channel)
                self._last = (time.monotonic(), pulse)
            return self._last[1]


def _status(fine: bool) -> HTTPStatus:
    return HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
