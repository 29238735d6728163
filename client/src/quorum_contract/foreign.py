# SPDX-License-Identifier: Apache-2.0
"""Find the meaning of another program's ``UNAVAILABLE`` by the words of its message.

Errors of quorum carry a code (:func:`quorum_contract.errors.take_code`). Triton, gRPC and proxies use one
status for refusals, missing keys, addresses without a server and calls that broke off; only the message
differs. Their sentences are listed here and nowhere else. Any other is taken for a call that broke off, which
is never sent again; so a sentence that a new version rewords costs retries, and cannot have members asked
twice.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Meaning(Enum):
    """The outcome of a call that ended with ``UNAVAILABLE``."""

    FULL = "a queue is full; the call was refused"
    NOT_READY = "the model is not loaded now; the call was refused"
    KEY_WANTED = "the call needs a key"
    NO_CONNECTION = "the call was never sent"


class Phrase(NamedTuple):
    """Words of another program.

    Attributes:
        words: Part of the message, verbatim.
        meaning: Their meaning.
        author: The program that writes them, and the version they were seen in.
    """

    words: str
    meaning: Meaning
    author: str


_TRITON = "Triton 2.51"
_GRPC = "gRPC 1.85"

PHRASES = (
    Phrase("Exceeds maximum queue size", Meaning.FULL, _TRITON),
    Phrase("RST_STREAM with error code 7", Meaning.FULL, f"{_GRPC}: more streams than a connection may have"),
    Phrase("failed to connect", Meaning.NO_CONNECTION, _GRPC),
    Phrase("connections to all backends failing", Meaning.NO_CONNECTION, f"{_GRPC} with `round_robin`"),
    Phrase("errors resolving", Meaning.NO_CONNECTION, _GRPC),
    Phrase("DNS resolution", Meaning.NO_CONNECTION, f"in the binary of {_GRPC}; not provoked"),
    Phrase("name resolution", Meaning.NO_CONNECTION, "glibc, quoted by gRPC; not provoked"),
    Phrase("protocol is restricted", Meaning.KEY_WANTED, _TRITON),
    Phrase("not at ready state", Meaning.NOT_READY, _TRITON),
    Phrase("no available versions", Meaning.NOT_READY, f"{_TRITON}, which has NOT_FOUND with it"),
    Phrase("no healthy upstream", Meaning.NOT_READY, "Envoy; not provoked"),
)


def meaning_of(details: str) -> Meaning | None:
    """The meaning of another program's message; ``None`` if unknown."""
    return next((phrase.meaning for phrase in PHRASES if phrase.words in details), None)
