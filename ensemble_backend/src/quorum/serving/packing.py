# SPDX-License-Identifier: Apache-2.0
"""Pack what gate, members and vote pass on to each other: one tensor of bytes per step.

Every tensor that a step reads or writes costs Triton's Python backend a region of shared memory and a copy
in two processes, and a BYTES tensor also a Python loop over its elements. The bytes are MessagePack, which
msgspec reads and writes in C, and checks against the types below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from quorum_contract import MAX_ATTRIBUTES, Spent, Status
from quorum_contract.usage import CALLED, NOTHING

_TICKET_BYTES = 8
Packed = TypeVar("Packed")
# A caller that bypasses the gate may send anything: longer lists than the gate admits are never built.
Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ATTRIBUTES)]
PackedVote = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=127)], float | None]
"""Value, status and score of one vote."""
_NOT_ASKED: PackedVote = ("", int(Status.NOT_ASKED), None)
Votes = Annotated[list[PackedVote], msgspec.Meta(max_length=MAX_ATTRIBUTES)]
Pairs = Annotated[
    list[tuple[str, Annotated[int, msgspec.Meta(ge=0, le=127)]]], msgspec.Meta(max_length=MAX_ATTRIBUTES)
]


class Admitted(NamedTuple):
    """A question that the gate has admitted, with its deadline on the machine's monotonic clock."""

    text: str
    category: str
    attributes: Names
    deadline_ns: int


class PackedAnswer(NamedTuple):
    """A member's votes, and what they took.

    Attributes:
        votes: One per attribute.
        spent: On all of them.
        left_out: Positions of the attributes that a lazy channel did not ask it, as they were settled. Of
            those that it was asked and has nothing to answer from the status is ``NOT_ASKED`` too.
    """

    votes: Votes
    spent: Spent
    left_out: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_ATTRIBUTES)] = ()


class Ticketed(NamedTuple):
    """A question as :func:`pack_question` packs it, and the INT64 ticket that is sealed over it."""

    ticket: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Admitted)
_answer = msgspec.msgpack.Decoder(PackedAnswer)
_votes = msgspec.msgpack.Decoder(Votes)
_pairs = msgspec.msgpack.Decoder(Pairs)


def pack_question(question: Admitted) -> bytes:
    """Pack text, category, attributes and deadline."""
    return _encode(question)


def unpack_question(body: bytes) -> Admitted:
    """Inverse of :func:`pack_question`; raises ValueError for other bytes."""
    return _unpack(_question, body, "a question of the gate")


def add_ticket(ticket: int, body: bytes) -> bytes:
    """Join ticket (INT64 little-endian) and packed question."""
    return ticket.to_bytes(_TICKET_BYTES, "little", signed=True) + body


def take_ticket(data: bytes) -> Ticketed:
    """Inverse of :func:`add_ticket`; too few bytes give an invalid ticket and an empty question."""
    return Ticketed(int.from_bytes(data[:_TICKET_BYTES], "little", signed=True), data[_TICKET_BYTES:])


def pack_votes(votes: Sequence[tuple[str, int, float | None]], spent: Spent = NOTHING) -> bytes:
    """Pack value, status and score of each attribute, and what they took."""
    return _encode((votes, spent))


def pack_left_out(attributes: int) -> bytes:
    """The votes of a member that a lazy channel asks nothing, as all attributes are settled."""
    return spread_votes(pack_votes(()), (), attributes)


def unpack_answer(data: bytes) -> PackedAnswer:
    """Inverse of :func:`pack_votes`; raises ValueError for other bytes.

    Votes without usage, or also without scores, of members that were loaded before an upgrade, are read too.
    """
    try:
        return _unpack(_answer, data, "a member's votes")
    except ValueError:
        pass
    try:
        return PackedAnswer(_unpack(_votes, data, "a member's votes"), CALLED)
    except ValueError:
        pass
    pairs = _unpack(_pairs, data, "a member's votes")
    return PackedAnswer([(value, status, None) for value, status in pairs], CALLED)


def unpack_votes(data: bytes) -> list[PackedVote]:
    """The votes of :func:`unpack_answer`."""
    return unpack_answer(data).votes


def spread_votes(data: bytes, positions: Sequence[int], attributes: int) -> bytes:
    """Votes on all attributes, of a member that was asked those at ``positions`` only.

    On others its status is ``NOT_ASKED``. Votes that are not as many as it was asked are passed on.
    """
    given, spent, _ = unpack_answer(data)
    if len(given) != len(positions):
        return data
    left_out = sorted({*range(attributes)}.difference(positions))
    votes: list[PackedVote] = [_NOT_ASKED] * attributes
    for position, vote in zip(positions, given, strict=True):
        votes[position] = vote
    return _encode((votes, spent, left_out))


def _unpack(decoder: msgspec.msgpack.Decoder[Packed], data: bytes, what: str) -> Packed:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not {what}: {error}") from None
