# SPDX-License-Identifier: Apache-2.0
"""Close connections whose request does not come, so that nobody keeps reviewers out by holding many."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 5.0
"""Seconds from the start of a connection, or of a further request on it, until the request is whole."""


class TimedConnection(H11Protocol):  # type: ignore[misc]  # uvicorn is skipped: an extra
    """A connection of uvicorn, closed unless a request is whole in time; bytes that drip do not help.

    Attributes:
        request_s: That time, seconds.
    """

    request_s = REQUEST_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on for the rest of a request, or stop."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._end is None:
            self._end = self.loop.call_later(self.request_s, self.transport.abort)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
