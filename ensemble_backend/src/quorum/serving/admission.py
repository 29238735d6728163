# SPDX-License-Identifier: Apache-2.0
"""Who is inside the ensemble: tickets in a small shared file, claimed by the gate, handed back by the vote.

Gate, members and vote are separate processes of one server. The gate is the only one that claims a slot and
the vote the only one that frees it, so no lock is needed; a slot that is never handed back (a cancelled
request) falls free at its deadline. A member answers only requests whose ticket is valid, which closes the
way around the gate.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

import numpy as np

CAPACITY = 4096
"""Slots in the file: the largest ``max_in_flight`` that a gate can be given."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (this is what it is for)
GRACE_NS = 1_000_000_000
_FILE_BYTES = CAPACITY * 16


def default_path() -> Path:
    """The file of this server: its steps are children of the same ``tritonserver`` process."""
    return path_of(os.getppid())


def path_of(server_pid: int) -> Path:
    """The file of the server with that process id."""
    return SHARED_MEMORY / f"quorum-{server_pid}-admission"


class Admission:
    """The tickets of one server; each process opens its own view of the same file.

    Args:
        path: The shared file; made on first use.
    """

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, _FILE_BYTES)
            self._map = mmap.mmap(handle, _FILE_BYTES)
        finally:
            os.close(handle)
        slots = np.frombuffer(self._map, dtype=np.int64).reshape(2, CAPACITY)
        self._tickets, self._expires_ns = slots

    def claim(self, limit: int, now_ns: int, deadline_ns: int) -> int | None:
        """Take a slot.

        Args:
            limit: How many requests may be inside, 1 to ``CAPACITY``.
            now_ns: ``time.monotonic_ns()``.
            deadline_ns: When the request is given up.

        Returns:
            A ticket (positive INT64), or ``None`` when ``limit`` requests are inside.
        """
        slot = int(np.argmin(self._expires_ns[:limit]))
        if self._expires_ns[slot] > now_ns:
            return None
        ticket = (secrets.randbits(47) << 16) | slot
        self._tickets[slot] = ticket
        self._expires_ns[slot] = deadline_ns + GRACE_NS
        return ticket

    def is_valid(self, ticket: int, now_ns: int) -> bool:
        """Whether ``ticket`` was issued, not handed back, and has not run out."""
        slot = ticket & 0xFFFF
        return slot < CAPACITY and int(self._tickets[slot]) == ticket and int(self._expires_ns[slot]) > now_ns

    def release(self, ticket: int) -> None:
        """Hand a ticket back; one that is not valid (any more) is ignored."""
        slot = ticket & 0xFFFF
        if slot < CAPACITY and int(self._tickets[slot]) == ticket:
            self._expires_ns[slot] = 0

    def inside(self, now_ns: int) -> int:
        """How many requests hold a ticket."""
        return int(np.count_nonzero(self._expires_ns > now_ns))
