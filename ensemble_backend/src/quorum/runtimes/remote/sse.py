# SPDX-License-Identifier: Apache-2.0
"""Read server-sent events from bytes, without ever holding more than a limit."""

from __future__ import annotations

from collections.abc import Iterator

MAX_EVENT_BYTES = 1 << 20


class Events:
    """Splits a stream into the data of its events (https://html.spec.whatwg.org/#event-stream-interpretation)."""

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        self._most, self._rest = most, b""
        self._data: list[bytes] = []
        self._size = 0

    def add(self, received: bytes) -> Iterator[bytes]:
        """Yield the data of the events that are complete now; raises ValueError for an endless one."""
        self._rest += received
        *lines, self._rest = self._rest.replace(b"\r\n", b"\n").split(b"\n")
        # A carriage return at the end may be the first half of a line's end.
        for line in lines:
            if not line.strip(b"\r"):
                if self._data:
                    yield b"\n".join(self._data)
                    self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].strip())
                self._size += len(line)
                self._bound()
        self._bound()

    def end(self) -> Iterator[bytes]:
        """Yield the data of an event that the end of the stream ends."""
        yield from self.add(b"\n\n")

    def _bound(self) -> None:
        if len(self._rest) + self._size > self._most:
            raise ValueError(f"an event of more than {self._most} bytes")
