# SPDX-License-Identifier: Apache-2.0
"""Count the items inside each version of the retriever, in a small shared file: a stop waits for them.

Each version has a process of its own, and writes a place of its own. They need no tickets, as no later step
has to tell a checked request from another.
"""

from __future__ import annotations

import threading

from quorum.serving.shared_file import RECOMMENDING, open_shared, shared_path

_PLACES = 512
_NUMBER_BYTES = 8


class Recommending:
    """The counts of one server.

    Args:
        server: Its name, as :func:`quorum.serving.shared_file.own_server` gives it.

    Raises:
        PermissionError: The file belongs to another user.
    """

    def __init__(self, server: str) -> None:
        self._counts = memoryview(
            open_shared(shared_path(server, RECOMMENDING), _PLACES * _NUMBER_BYTES)
        ).cast("q")

    def place(self, version: int) -> Place:
        """The place of a version, empty; only the process of that version calls this."""
        return Place(self._counts, version % _PLACES)

    def inside(self) -> int:
        """How many items are inside all versions."""
        return sum(self._counts)


class Place:
    """How many items are inside one version."""

    def __init__(self, counts: memoryview, at: int) -> None:
        self._counts, self._at, self._lock = counts, at, threading.Lock()
        # What an earlier process held is lost.
        counts[at] = 0

    def enter(self, limit: int) -> bool:
        """Count one more, if fewer than ``limit`` are inside."""
        with self._lock:
            if self._counts[self._at] >= limit:
                return False
            self._counts[self._at] += 1
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._counts[self._at] -= 1

    @property
    def inside(self) -> int:
        """How many are inside."""
        count: int = self._counts[self._at]
        return count
