# SPDX-License-Identifier: Apache-2.0
"""Tickets for requests inside the ensemble, in a small shared file: claimed by the gate, freed by the vote.

Gate, members and vote are separate processes of one server. Each column of the file is written by one kind of
step: the gate claims and cancels, members say that a ticket is in use, the vote releases. So no lock is
needed. A slot that is never freed expires with its deadline; one that no member has used after
``UNUSED_NS`` (a call of the gate alone) is taken before a request is refused.

A ticket is sealed over the question and its deadline with a secret of the server, and a member answers only
the question that its ticket was sealed over: there is no way around the gate. The slot only counts: a request
that loses its slot while it waits for its members is answered all the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quorum.serving.shared_file import ADMISSION, open_shared, own_server, server_name, shared_path

CAPACITY = 4096
"""Slots in the file: the largest possible ``max_in_flight`` of a gate."""

GRACE_NS = 1_000_000_000
UNUSED_NS = 500_000_000
"""A ticket that no member has used after this time no longer keeps others out."""

_SECRET_BYTES = 32
_HEADER_BYTES = 64
_COLUMNS = 7
_RECENT = 1024
_TABLE_BYTES = _HEADER_BYTES + CAPACITY * _COLUMNS * 8
_CHANNELS_AT = _TABLE_BYTES // 8 + _RECENT
_FILE_BYTES = (_CHANNELS_AT + CAPACITY) * 8
_CLOSED_AT, _SLOTS_AT = _SECRET_BYTES // 8, _HEADER_BYTES // 8
_SLOT_BITS = 16
_SLOT = (1 << _SLOT_BITS) - 1


def own_admission() -> Admission:
    """The tickets of this step's server."""
    return Admission(shared_path(own_server(), ADMISSION))


def admission_of(server_pid: int) -> Admission:
    """The tickets of a server that runs.

    Raises:
        OSError: It does not run, or belongs to another user.
    """
    return Admission(shared_path(server_name(server_pid), ADMISSION))


def slot_of(ticket: int) -> int:
    """The slot of a ticket; a forged one may have none, and its number is ``CAPACITY`` or more then."""
    return ticket & _SLOT


class Recovery(IntEnum):
    """Whether the server comes back after a fault, when a member that cannot start must not keep it down.

    ``RESTART``: a member waits for its LLM once more, and loads without it; ``RELOAD``: its step is replaced
    while the others serve, so it loads at once and abstains until its LLM is there.
    """

    NONE = 0
    RESTART = 1
    RELOAD = 2


class Admission:
    """The tickets of one server; each process opens its own view of the same file, created on first use.

    Raises:
        PermissionError: The file belongs to another user.
    """

    def __init__(self, path: Path) -> None:
        self._map = open_shared(path, _FILE_BYTES)
        # Single numbers are read and written several times faster through a memoryview than through numpy.
        numbers = memoryview(self._map).cast("q")
        self._closed, self._answered, self._cancels, self._recovery = (
            numbers[at : at + 1] for at in range(_CLOSED_AT, _CLOSED_AT + 4)
        )
        columns = [numbers[at : at + CAPACITY] for at in range(_SLOTS_AT, _TABLE_BYTES // 8, CAPACITY)]
        # Written by the gate.
        self._tickets, self._expires_ns, self._claimed_ns = columns[:3]
        # The last ticket of each slot that the vote released, that a member used, that the gate cancelled.
        self._released, self._used, self._cancelled = columns[3:6]
        # A hash of the id of each slot's request; 0: it has none.
        self._requests = columns[6]
        # The tickets cancelled last; a slot may be claimed and cancelled again before members have looked.
        self._recent = numbers[_TABLE_BYTES // 8 : _CHANNELS_AT]
        # Of each slot's request, as the gate counts them.
        self._channels = numbers[_CHANNELS_AT:]
        table = np.frombuffer(self._map, np.int64, CAPACITY * _COLUMNS, _HEADER_BYTES)
        self._table = table.reshape(_COLUMNS, CAPACITY)
        self._free: list[int] = []

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

    @property
    def recovery(self) -> Recovery:
        """What the server comes back from; its supervisor sets this."""
        return Recovery(self._recovery[0])

    @recovery.setter
    def recovery(self, recovery: Recovery) -> None:
        self._recovery[0] = recovery

    def mark_answered(self) -> None:
        """Record the time at which this server answered a request. Only the vote calls this."""
        self._answered[0] = time.monotonic_ns()

    @property
    def has_answered(self) -> bool:
        """Whether :meth:`mark_answered` was called; before, the server is starting and serves no caller."""
        return bool(self._answered[0])

    def seal(self, body: bytes) -> int:
        """Tie a ticket to a question: 47 bits of a keyed BLAKE2b over its packed form."""
        digest = hashlib.blake2b(body, key=self._map[:_SECRET_BYTES], digest_size=8).digest()
        return int.from_bytes(digest, "little") >> (64 - 63 + _SLOT_BITS)

    def claim(
        self,
        limit: int,
        now_ns: int,
        deadline_ns: int,
        seal: int,
        request_id: str = "",
        channel: int = 0,
    ) -> int | None:
        """Claim a slot for a question of that :meth:`seal`; times are of ``time.monotonic_ns()``.

        By its ``request_id``, if it has one, the request can be cancelled. Where no slot is free, the oldest
        of those that no member has used for ``UNUSED_NS`` is taken. ``channel`` is the one that was asked,
        for :meth:`claimed`.

        Returns:
            A ticket (positive INT64), or ``None`` when ``limit`` (1 to ``CAPACITY``) requests are inside.
        """
        slot = self._find(limit, now_ns)
        if slot is None:
            return None
        if self._free:
            self._free.pop()
        ticket = (seal << _SLOT_BITS) | slot
        self._claimed_ns[slot] = now_ns
        self._expires_ns[slot] = deadline_ns + GRACE_NS
        self._requests[slot] = self._hash(request_id)
        self._channels[slot] = channel
        self._tickets[slot] = ticket
        return ticket

    def is_full(self, limit: int, now_ns: int) -> bool:
        """Whether :meth:`claim` would return ``None``."""
        return self._find(limit, now_ns) is None

    def is_valid(self, ticket: int, now_ns: int, seal: int | None = None) -> bool:
        """Whether ``ticket`` was issued, not freed or cancelled, has not expired, and fits ``seal`` if given.

        With its seal a ticket stays valid when its slot went to another request: the deadline, which is under
        the seal, ends it.
        """
        slot = slot_of(ticket)
        if slot >= CAPACITY or (seal is not None and ticket >> _SLOT_BITS != seal):
            return False
        if self._tickets[slot] != ticket:
            return seal is not None and self._cancelled[slot] != ticket
        return not self._is_free(slot, now_ns)

    def claimed(self, ticket: int) -> tuple[int, int] | None:
        """The channel of a request, and when its slot was claimed; None: another one has its slot."""
        slot = slot_of(ticket)
        if ticket <= 0 or slot >= CAPACITY or self._tickets[slot] != ticket:
            return None
        return self._channels[slot], self._claimed_ns[slot]

    def use(self, ticket: int) -> None:
        """Record that a member works on a question. Members call this as soon as their step has it."""
        slot = slot_of(ticket)
        if slot < CAPACITY and self._tickets[slot] == ticket:
            self._used[slot] = ticket

    def cancel(self, request_id: str, now_ns: int) -> int:
        """Free the slots of the requests with that id, and let members know. Only the gate calls this.

        Returns:
            How many there were: 0 for an id that is not known, or whose request is answered already.
        """
        tickets, expires, _, released, _, cancelled, requests = self._table
        hashed = self._hash(request_id)
        if not hashed:
            return 0
        held = (requests == hashed) & (expires > now_ns) & (released != tickets) & (cancelled != tickets)
        slots: list[int] = np.flatnonzero(held).tolist()
        for slot in slots:
            self._cancelled[slot] = ticket = self._tickets[slot]
            self._recent[self._cancels[0] % _RECENT] = ticket
            self._cancels[0] += 1
        return len(slots)

    def is_cancelled(self, ticket: int) -> bool:
        """Whether :meth:`cancel` was called for a request, however its slot is used now."""
        slot = slot_of(ticket)
        return slot < CAPACITY and ticket > 0 and self._cancelled[slot] == ticket

    @property
    def cancels(self) -> int:
        """How many tickets have been cancelled so far."""
        return self._cancels[0]

    def cancelled_since(self, count: int) -> list[int]:
        """The tickets that were cancelled since :attr:`cancels` was ``count``, at most the last 1024."""
        last = self._cancels[0]
        return [self._recent[at % _RECENT] for at in range(max(count, last - _RECENT), last)]

    def release(self, ticket: int) -> None:
        """Free the slot of a decided ticket; one that is not valid is ignored. Only the vote calls this."""
        slot = slot_of(ticket)
        if slot < CAPACITY and self._tickets[slot] == ticket:
            self._released[slot] = ticket

    def inside(self, now_ns: int) -> int:
        """Number of requests that hold a ticket."""
        return CAPACITY - len(self._free_slots(CAPACITY, now_ns))

    def _hash(self, request_id: str) -> int:
        """63 bits of a keyed BLAKE2b, at least 1; 0 without an id."""
        if not request_id:
            return 0
        # Ids that no text is (a caller may send any bytes) still have a hash.
        body = request_id.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(body, key=self._map[:_SECRET_BYTES], digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 1) or 1

    def _find(self, limit: int, now_ns: int) -> int | None:
        """The next slot to claim, the last of ``_free`` if any is free; ``None`` if all are held."""
        while self._free:
            slot = self._free[-1]
            if slot < limit and self._is_free(slot, now_ns):
                return slot
            self._free.pop()
        free = self._free_slots(limit, now_ns)
        if len(free):
            # Only this gate takes slots, so that the others found stay free until their turn.
            self._free = free[::-1].tolist()
            return self._free[-1]
        tickets, _, claimed, _, used, *_ = self._table[:, :limit]
        since = np.where(used == tickets, now_ns, claimed)
        slot = int(since.argmin())
        return slot if since[slot] <= now_ns - UNUSED_NS else None

    def _is_free(self, slot: int, now_ns: int) -> bool:
        ticket = self._tickets[slot]
        return (
            self._expires_ns[slot] <= now_ns
            or self._released[slot] == ticket
            or self._cancelled[slot] == ticket
        )

    def _free_slots(self, limit: int, now_ns: int) -> npt.NDArray[np.intp]:
        tickets, expires, _, released, _, cancelled, _ = self._table[:, :limit]
        return np.flatnonzero((expires <= now_ns) | (released == tickets) | (cancelled == tickets))
