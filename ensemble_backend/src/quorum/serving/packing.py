# SPDX-License-Identifier: Apache-2.0
"""What gate, members and vote hand each other: one tensor of bytes each, whatever is in it.

Every tensor that a step reads or writes costs Triton's Python backend a region of shared memory and a copy in
two processes, and BYTES tensors a Python loop over their elements besides. All integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_QUESTION = struct.Struct("<qqI")
_COUNT = struct.Struct("<I")


class Admitted(NamedTuple):
    """A question that the gate has checked and let in.

    Attributes:
        text: Product text.
        category: May be empty.
        attributes: ``A`` names.
        deadline_ns: On the monotonic clock of the machine.
        ticket: See :class:`quorum.serving.admission.Admission`.
    """

    text: str
    category: str
    attributes: list[str]
    deadline_ns: int
    ticket: int


def pack_question(question: Admitted) -> bytes:
    """INT64 deadline, INT64 ticket, then the strings text, category and attributes."""
    head = _QUESTION.pack(question.deadline_ns, question.ticket, 2 + len(question.attributes))
    return head + _strings([question.text, question.category, *question.attributes])


def unpack_question(data: bytes) -> Admitted:
    """Inverse of :func:`pack_question`.

    Raises:
        ValueError: Not what it made.
    """
    try:
        deadline_ns, ticket, count = _QUESTION.unpack_from(data)
        text, category, *attributes = _read_strings(data, _QUESTION.size, count)
    except struct.error as error:
        raise ValueError(f"not a question of the gate: {error}") from error
    return Admitted(text, category, attributes, deadline_ns, ticket)


def pack_votes(votes: Sequence[tuple[str, int]]) -> bytes:
    """UINT32 count, an INT8 status for each vote, then the strings of their values."""
    head = _COUNT.pack(len(votes)) + struct.pack(f"<{len(votes)}b", *(status for _, status in votes))
    return head + _strings([value for value, _ in votes])


def unpack_votes(data: bytes) -> list[tuple[str, int]]:
    """Inverse of :func:`pack_votes`: value and status of each attribute.

    Raises:
        ValueError: Not what it made.
    """
    try:
        (count,) = _COUNT.unpack_from(data)
        if count > len(data):
            raise ValueError(f"not a member's votes: {count} of them in {len(data)} bytes")
        statuses = struct.unpack_from(f"<{count}b", data, _COUNT.size)
    except struct.error as error:
        raise ValueError(f"not a member's votes: {error}") from error
    return list(zip(_read_strings(data, _COUNT.size + count, count), statuses, strict=True))


def _strings(strings: Sequence[str]) -> bytes:
    raw = [string.encode("utf-8") for string in strings]
    return struct.pack(f"<{len(raw)}I", *map(len, raw)) + b"".join(raw)


def _read_strings(data: bytes, at: int, count: int) -> list[str]:
    if count > len(data):
        raise ValueError(f"{count} strings in {len(data)} bytes")
    try:
        lengths = struct.unpack_from(f"<{count}I", data, at)
    except struct.error as error:
        raise ValueError(f"cut off: {error}") from error
    at += 4 * count
    if at + sum(lengths) != len(data):
        raise ValueError(f"{len(data)} bytes where {at + sum(lengths)} are announced")
    strings = []
    for length in lengths:
        strings.append(data[at : at + length].decode("utf-8"))
        at += length
    return strings
