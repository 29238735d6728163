# SPDX-License-Identifier: Apache-2.0
"""Tickets for requests inside the ensemble, in a small shared file: claimed by the gate, freed by the vote.

Gate, members and vote are separate processes of one server. Only the gate claims slots and only the vote
frees them, so no lock is needed; a slot that is never freed (a cancelled request) expires with its
deadline. A ticket is sealed over the question and its deadline with a secret of the server, and a member
answers only the question that its ticket was sealed over: there is no way around the gate.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

import numpy as np

CAPACITY = 4096
"""Slots in the file: the largest possible ``max_in_flight`` of a gate."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (this is what it is for)
GRACE_NS = 1_000_000_000
_SECRET_BYTES = 32
_HEADER_BYTES = 64
_FILE_BYTES = _HEADER_BYTES + CAPACITY * 16
_CLOSED_AT, _SLOTS_AT = _SECRET_BYTES // 8, _HEADER_BYTES // 8
_SLOT_BITS = 16


def default_path() -> Path:
    """The file of this step's server: all steps are children of the same ``tritonserver`` process."""
    return path_of(os.getppid())


def path_of(server_pid: int) -> Path:
    """The file of the server with that process id."""
    return SHARED_MEMORY / f"quorum-{server_pid}-admission"


class Admission:
    """The tickets of one server; each process opens its own view of the same file, created on first use.

    Raises:
        PermissionError: The file belongs to another user.
    """

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(handle).st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to another user; remove it")
            os.ftruncate(handle, _FILE_BYTES)
            self._map = mmap.mmap(handle, _FILE_BYTES)
        finally:
            os.close(handle)
        # Single numbers are read and written several times faster through a memoryview than through numpy.
        numbers = memoryview(self._map).cast("q")
        self._closed, self._answered = (numbers[at : at + 1] for at in (_CLOSED_AT, _CLOSED_AT + 1))
        self._tickets, self._expires_ns = (
            numbers[at : at + CAPACITY] for at in (_SLOTS_AT, _SLOTS_AT + CAPACITY)
        )
        self._next = 0

    def open_gate(self) -> None:
        """Make the secret, unless an earlier gate of this server did. Only the gate calls this."""
        if not any(self._map[:_SECRET_BYTES]):
            self._map[:_SECRET_BYTES] = os.urandom(_SECRET_BYTES)

    def close_gate(self) -> None:
        """Stop admitting requests, for good: the server is about to stop."""
        self._closed[0] = 1

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close_gate` was called."""
        return bool(self._closed[0])

    def mark_answered(self) -> None:
        """Record that this server has answered a request. Only the vote calls this."""
        self._answered[0] = 1

    @property
    def has_answered(self) -> bool:
        """Whether :meth:`mark_answered` was called; before, the server is starting and serves no caller."""
        return bool(self._answered[0])

    def seal(self, body: bytes) -> int:
        """Tie a ticket to a question: 47 bits of a keyed BLAKE2b over its packed form."""
        digest = hashlib.blake2b(body, key=self._map[:_SECRET_BYTES], digest_size=8).digest()
        return int.from_bytes(digest, "little") >> (64 - 63 + _SLOT_BITS)

    def claim(self, limit: int, now_ns: int, deadline_ns: int, seal: int) -> int | None:
        """Claim a slot for a question of that :meth:`seal`; times are of ``time.monotonic_ns()``.

        Returns:
            A ticket (positive INT64), or ``None`` when ``limit`` (1 to ``CAPACITY``) requests are inside.
        """
        slot = self._next if self._next < limit else 0
        if self._expires_ns[slot] > now_ns:
            slot = int(np.argmin(np.asarray(self._expires_ns)[:limit]))
            if self._expires_ns[slot] > now_ns:
                return None
        self._next = slot + 1
        ticket = (seal << _SLOT_BITS) | slot
        self._tickets[slot] = ticket
        self._expires_ns[slot] = deadline_ns + GRACE_NS
        return ticket

    def is_valid(self, ticket: int, now_ns: int, seal: int | None = None) -> bool:
        """Whether ``ticket`` was issued, not freed, has not expired, and fits ``seal`` if given."""
        slot = ticket & ((1 << _SLOT_BITS) - 1)
        if slot >= CAPACITY or (seal is not None and ticket >> _SLOT_BITS != seal):
            return False
        return self._tickets[slot] == ticket and self._expires_ns[slot] > now_ns

    def release(self, ticket: int) -> None:
        """Free a ticket's slot; a ticket that is not valid (any more) is ignored."""
        slot = ticket & ((1 << _SLOT_BITS) - 1)
        if slot < CAPACITY and self._tickets[slot] == ticket:
            self._expires_ns[slot] = 0

    def inside(self, now_ns: int) -> int:
        """Number of requests that hold a ticket."""
        return int(np.count_nonzero(np.asarray(self._expires_ns) > now_ns))
