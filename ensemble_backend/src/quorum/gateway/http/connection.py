# SPDX-License-Identifier: Apache-2.0
"""A connection over HTTP that strangers cannot hold: bounded in number, time, size and age."""

from __future__ import annotations

import asyncio
import json
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

import h11

from quorum.gateway.room import most_connections
from quorum.gateway.settings import Settings
from quorum.review.web.connection import TimedConnection

MAX_CONNECTIONS = 1024
_HANDSHAKE_S = 5
_WRITE_S = 20.0
_NO_HTTP = {
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "detail": "this is no HTTP request",
    "code": "HTTP_REFUSED",
}


class Places:
    """The places of one server's connections, each taken from when it is accepted until it is lost.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ends: dict[Connection, Callable[[], None]] = {}
        # Those that no request is answered on, the oldest first.
        self._idle: dict[Connection, None] = {}

    def take(self, connection: Connection, end: Callable[[], None]) -> None:
        """Take a place, if it has none; if there was none, the oldest idle connection has ended for it.

        Args:
            connection: That came.
            end: Ends it at once.
        """
        if connection in self._ends:
            return
        self._ends[connection] = end
        self._idle[connection] = None
        if len(self._ends) > self._most:
            oldest = next(iter(self._idle))
            # That it is lost is noticed later, and more may come until then.
            end_oldest = self._ends[oldest]
            self.leave(oldest)
            end_oldest()

    def work(self, connection: Connection) -> None:
        """Keep the place while a request is answered."""
        self._idle.pop(connection, None)

    def rest(self, connection: Connection) -> None:
        """Give the place up for others, if it must be, from now on."""
        if connection in self._ends:
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        """Give the place back."""
        self._ends.pop(connection, None)
        self._idle.pop(connection, None)


class Connection(TimedConnection):
    """A connection of uvicorn, closed when its request does not come, or its answer is not taken, in time.

    One too many takes the place of the oldest that no request is answered on, so new callers always come in.

    Attributes:
        request_s: Seconds for a request to be whole.
        max_age_s: Seconds after which it is closed, once it is idle.
        most_bytes: Of one request; more than a body may have, as a refused one is read on for a while.
        places: Of all connections of its server.
    """

    request_s = 10.0
    max_age_s = 600.0
    most_bytes = 16 << 20
    places: Places

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._age: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Make room, and begin to wait."""
        super().connection_made(transport)
        self.places.take(self, transport.abort)
        self._age = self.loop.call_later(self.max_age_s, self.shutdown)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless a request has too many."""
        self._bytes = len(data) if self.conn.their_state is h11.IDLE else self._bytes + len(data)
        if self._bytes > self.most_bytes:
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.places.work(self)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.places.rest(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        self.places.leave(self)
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


class SecureConnection(SSLProtocol):
    """TLS below a :class:`Connection`, whose place it takes before the handshake: strangers may never end it.

    asyncio's own servers count a connection only after its handshake.
    """

    # A record of TLS has 16 KiB; by default each connection has a buffer of 256 KiB from the start.
    max_size = 32 << 10

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, context: ssl.SSLContext
    ) -> None:
        super().__init__(
            loop, connection, context, None, server_side=True,  # type: ignore[arg-type]  # None is allowed
            ssl_handshake_timeout=_HANDSHAKE_S, ssl_shutdown_timeout=_HANDSHAKE_S,
        )  # fmt: skip
        self._above = connection

    def connection_made(self, transport: Any) -> None:
        """Make room, and begin the handshake."""
        self._above.places.take(self._above, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop."""
        self._above.places.leave(self._above)
        super().connection_lost(exc)


def connections(settings: Settings) -> type[Connection]:
    """The class of the connections of one server."""
    places = Places(most_connections(settings, MAX_CONNECTIONS))
    return type("Connection", (Connection,), {"places": places, "max_age_s": settings.max_age_s})
