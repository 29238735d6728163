# SPDX-License-Identifier: Apache-2.0
"""What gate, members and vote hand each other: one tensor of bytes each, whatever is in it.

Every tensor that a step reads or writes costs Triton's Python backend a region of shared memory and a copy
in two processes, and BYTES tensors a Python loop over their elements besides. The bytes are MessagePack,
which msgspec reads and writes in C, and checks against the types below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from quorum_contract import MAX_ATTRIBUTES

_TICKET_BYTES = 8
# Whoever calls a step around the gate may send anything: nothing longer than the gate lets through is built.
Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ATTRIBUTES)]
Votes = Annotated[
    list[tuple[str, Annotated[int, msgspec.Meta(ge=0, le=127)]]], msgspec.Meta(max_length=MAX_ATTRIBUTES)
]


class Admitted(NamedTuple):
    """A question that the gate has checked and let in.

    Attributes:
        text: Product text.
        category: May be empty.
        attributes: ``A`` names, at most ``MAX_ATTRIBUTES``.
        deadline_ns: On the monotonic clock of the machine.
    """

    text: str
    category: str
    attributes: Names
    deadline_ns: int


class Ticketed(NamedTuple):
    """A packed question with the ticket that lets it pass.

    Attributes:
        ticket: INT64, see :class:`quorum.serving.admission.Admission`.
        body: What the ticket is sealed over: :func:`pack_question`.
    """

    ticket: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Admitted).decode
_votes = msgspec.msgpack.Decoder(Votes).decode


def pack_question(question: Admitted) -> bytes:
    """Text, category, attributes and deadline."""
    return _encode(question)


def unpack_question(body: bytes) -> Admitted:
    """Inverse of :func:`pack_question`.

    Raises:
        ValueError: Not what it made.
    """
    try:
        return _question(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a question of the gate: {error}") from None


def add_ticket(ticket: int, body: bytes) -> bytes:
    """The ticket, INT64 little-endian, then the question."""
    return ticket.to_bytes(_TICKET_BYTES, "little", signed=True) + body


def take_ticket(data: bytes) -> Ticketed:
    """Inverse of :func:`add_ticket`; too few bytes are a ticket that nobody issued, and no question."""
    return Ticketed(int.from_bytes(data[:_TICKET_BYTES], "little", signed=True), data[_TICKET_BYTES:])


def pack_votes(votes: Sequence[tuple[str, int]]) -> bytes:
    """Value and status of each attribute."""
    return _encode(votes)


def unpack_votes(data: bytes) -> list[tuple[str, int]]:
    """Inverse of :func:`pack_votes`.

    Raises:
        ValueError: Not what it made.
    """
    try:
        return _votes(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a member's votes: {error}") from None
