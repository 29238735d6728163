# SPDX-License-Identifier: Apache-2.0
"""A connection over HTTP that strangers cannot hold: bounded in number, time, size and age."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11

from quorum.processes import raise_open_files
from quorum.review.web.connection import TimedConnection

MAX_CONNECTIONS = 1024
_OWN_FILES = 64
_WRITE_S = 20.0
_NO_HTTP = {
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "detail": "this is no HTTP request",
    "code": "HTTP_REFUSED",
}


class Connection(TimedConnection):
    """A connection of uvicorn, closed when its request does not come, or its answer is not taken, in time.

    One too many takes the place of the oldest that no request is answered on, so new callers always come in.

    Attributes:
        request_s: Seconds for a request to be whole.
        max_age_s: Seconds after which it is closed, once it is idle.
        most_bytes: Of one request; more than a body may have, as a refused one is read on for a while.
        idle: The connections that no request is answered on, the oldest first.
        most: Connections at once.
    """

    request_s = 10.0
    max_age_s = 600.0
    most_bytes = 16 << 20
    idle: dict[Connection, None]
    most: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._age: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Make room, and begin to wait."""
        super().connection_made(transport)
        self.idle[self] = None
        if len(self.connections) > self.most:
            oldest = next(iter(self.idle))
            # Its end is noticed later, and more may come until then.
            del self.idle[oldest]
            oldest.transport.abort()
        self._age = self.loop.call_later(self.max_age_s, self.shutdown)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless a request has too many."""
        self._bytes = len(data) if self.conn.their_state is h11.IDLE else self._bytes + len(data)
        if self._bytes > self.most_bytes:
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.idle.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.idle[self] = None
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        self.idle.pop(self, None)
        for timer in (self._age, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a caller that does not read, not for ever."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(_WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the caller reads again."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one that has not taken its last answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the form of all other errors."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps(_NO_HTTP).encode()
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        start = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()


def connections(max_age_s: float) -> type[Connection]:
    """The class of the connections of one server."""
    most = min(MAX_CONNECTIONS, raise_open_files() - _OWN_FILES)
    return type("Connection", (Connection,), {"idle": {}, "most": most, "max_age_s": max_age_s})
