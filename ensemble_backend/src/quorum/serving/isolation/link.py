# SPDX-License-Identifier: Apache-2.0
"""The step's end of the socket to a worker: it never waits for the worker."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Sequence

from quorum.serving.isolation.frames import Frames, FromWorker, ToWorker, frame

_READ_BYTES = 1 << 16
MAX_UNSENT_BYTES = 1 << 22
"""What waits for a worker that does not read; a further question is refused."""


class Link:
    """Sends from any thread, and receives on one; what the socket does not take at once waits in memory."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._frames: Frames[FromWorker] = Frames(FromWorker)
        self._unsent = bytearray()
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(connection, select.POLLIN)
        self.is_open = True

    def send(self, message: ToWorker) -> bool:
        """Send a message, at once or later; returns whether there was room for it."""
        data = frame(message)
        with self._lock:
            if self._unsent:
                if len(self._unsent) + len(data) > MAX_UNSENT_BYTES:
                    return False
                self._unsent += data
                return True
            sent = self._send(data)
            if sent == len(data):
                return True
            self._unsent += data[sent:]
        self.wake()
        return True

    def wake(self) -> None:
        """Have :meth:`receive` return."""
        os.eventfd_write(self._wake, 1)

    def receive(self, timeout_s: float) -> Sequence[FromWorker]:
        """Wait for messages, and send what waits; ``is_open`` is false after the end of the connection."""
        wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        self._poll.modify(self._socket, wanted)
        messages: list[FromWorker] = []
        for descriptor, events in self._poll.poll(max(0.0, timeout_s) * 1e3):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
                continue
            if events & select.POLLOUT:
                with self._lock:
                    del self._unsent[: self._send(self._unsent)]
            if events & ~select.POLLOUT:
                messages += self._read()
        return messages

    def close(self) -> None:
        """Release the event; the socket belongs to the process."""
        os.close(self._wake)

    def _read(self) -> list[FromWorker]:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.is_open = False
        return list(self._frames.add(data))

    def _send(self, data: bytes | bytearray) -> int:
        """The number of bytes that the socket took; all, where the other end is gone: reading notices."""
        try:
            return self._socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)
