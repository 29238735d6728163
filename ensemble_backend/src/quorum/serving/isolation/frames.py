# SPDX-License-Identifier: Apache-2.0
"""The messages between a step and its worker process, each a length and MessagePack."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from quorum_contract.errors import QuorumError

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 1 << 24


class Start(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first message to a worker: what to serve.

    Attributes:
        members: Rendered settings of the members of the model.
        root: Folder that relative paths of options start from.
        catalogue: Path of the catalogue.
        memory_limit_gib: Of the process; None: no limit.
        is_replacement: Whether the server is serving, so that loading must not take the CPU from others.
    """

    members: list[dict[str, Any]]
    root: str
    catalogue: str
    memory_limit_gib: float | None
    is_replacement: bool = False


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A question, packed as the gate packs it, to the member at ``position``."""

    number: int
    position: int
    deadline_ns: int
    question: bytes


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Asks for a :class:`Pong`, which comes from the thread that submits questions."""


class Close(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Stop in order and exit; at the end of the connection without it a worker exits at once."""


class Drop(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The votes for the question of that number are not waited for; it may be settled already."""

    number: int


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """All runtimes of the worker have started."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A runtime could not start; ``message`` says why and, for wrong settings, what to change."""

    message: str
    is_settings: bool


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The packed votes for the question of that number."""

    number: int
    votes: bytes


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The reply to a :class:`Ping`."""


ToWorker = Start | Ask | Ping | Close | Drop
FromWorker = Ready | Failed | Voted | Pong
Message = TypeVar("Message")
_encode = msgspec.msgpack.Encoder().encode


class FrameError(QuorumError, ValueError):
    """The other side sent something that is no message."""

    code = "WORKER_FRAME_INVALID"


def frame(message: ToWorker | FromWorker) -> bytes:
    """A message as it is sent."""
    packed = _encode(message)
    return _LENGTH.pack(len(packed)) + packed


class Frames(Generic[Message]):
    """Cuts what arrives into messages of one direction.

    Args:
        kind: ``ToWorker`` or ``FromWorker``.
    """

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._rest = b""

    def add(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that ``data`` completes; raises FrameError for anything else."""
        data, at = self._rest + data, 0
        while len(data) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a message of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            start = at + _LENGTH.size
            if len(data) - start < length:
                break
            at = start + length
            try:
                yield self._decode(data[start:at])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise FrameError(f"not a message: {error}") from None
        self._rest = data[at:]
