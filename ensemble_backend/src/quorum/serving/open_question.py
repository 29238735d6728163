# SPDX-License-Identifier: Apache-2.0
"""Say which attributes of a question a row of members is asked, until when, and leave the others out.

In a lazy channel gate and vote give such a tensor before each row: ``OPEN_3`` with three rows left, this one
included. The number is in the name, which the channel's configuration chooses, so that one gate and one vote
serve channels of any number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec

from quorum.serving.packing import Admitted
from quorum_contract import MAX_ATTRIBUTES, OPEN
from quorum_contract.tensors import PACKED_OPEN, Tensor

_Position = Annotated[int, msgspec.Meta(ge=0, lt=MAX_ATTRIBUTES)]
Positions = Annotated[tuple[_Position, ...], msgspec.Meta(max_length=MAX_ATTRIBUTES)]


class Open(NamedTuple):
    """What a row of members is asked.

    Attributes:
        positions: Positions of the attributes in the question, ascending.
        deadline_ns: When the row is not waited for any more, on the machine's monotonic clock.
        asked_ns: When it was asked: answers of earlier rows start no grace.
        whole: Whether it is asked all attributes while any is open.
    """

    positions: Positions
    deadline_ns: int
    asked_ns: int
    whole: bool = False


_encode = msgspec.msgpack.Encoder().encode
_open = msgspec.msgpack.Decoder(Open)


def open_tensor(rows: int) -> Tensor:
    """The output of gate and vote for a row; ``rows`` are left, this one included."""
    return PACKED_OPEN.named(f"{OPEN}_{rows}")


def rows_in(requested: Iterable[str]) -> dict[str, int]:
    """Of requested outputs, those of :func:`open_tensor`, with the number of rows left."""
    prefix = f"{OPEN}_"
    return {name: int(name[len(prefix) :]) for name in requested if name.startswith(prefix)}


def pack_open(
    positions: Sequence[int], deadline_ns: int, now_ns: int, rows: int, whole: bool = False
) -> bytes:
    """Pack what a row is asked.

    Args:
        positions: Of the attributes, ascending.
        deadline_ns: The question's.
        now_ns: ``time.monotonic_ns()``.
        rows: Rows left, this one included; each gets an equal share of the time that is left.
        whole: Whether the row is asked all attributes while any is open.
    """
    share = max(0, deadline_ns - now_ns) // rows
    return _encode(Open(tuple(positions), min(deadline_ns, now_ns + share), now_ns, whole))


def unpack_open(data: bytes, attributes: int) -> Open:
    """Inverse of :func:`pack_open`; raises ValueError for what is no part of so many attributes."""
    try:
        found = _open.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not attributes of a row: {error}") from None
    positions = found.positions
    if [*positions] != sorted({*positions}) or max(positions, default=-1) >= attributes:
        raise ValueError(f"not ascending positions of {attributes} attributes: {positions}")
    return found


def reduced(question: Admitted, asked: Open) -> Admitted:
    """The question about the open attributes alone."""
    names = question.attributes
    return question._replace(attributes=tuple(names[at] for at in asked.positions))
