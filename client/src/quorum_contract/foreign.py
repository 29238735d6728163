# SPDX-License-Identifier: Apache-2.0
"""What other programs mean by ``UNAVAILABLE``, where their words are all that tells it.

Errors of ours carry a code (:func:`quorum_contract.errors.take_code`). Triton, gRPC and proxies give one
status to refusals, to missing keys, to addresses without a server and to calls that broke off, with nothing
beside it but English. Their sentences stand here and nowhere else. Whatever is not listed is taken for a call
that broke off, which is never sent again; so a sentence that a new version words anew costs retries, and
cannot have members asked twice.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Meaning(Enum):
    """What became of a call that ended with ``UNAVAILABLE``."""

    FULL = "a queue is full; the call was refused"
    NOT_READY = "the model is not loaded now; the call was refused"
    KEY_WANTED = "the call needs a key"
    NO_CONNECTION = "the call was never sent"


class Phrase(NamedTuple):
    """Words of another program.

    Attributes:
        words: Part of the message, as it is written there.
        meaning: What they mean.
        author: Which program writes them, and the versions they were seen in.
    """

    words: str
    meaning: Meaning
    author: str


_TRITON = "Triton 2.51"
_GRPC = "gRPC 1.85"

PHRASES = (
    Phrase("Exceeds maximum queue size", Meaning.FULL, _TRITON),
    Phrase("failed to connect", Meaning.NO_CONNECTION, _GRPC),
    Phrase("errors resolving", Meaning.NO_CONNECTION, _GRPC),
    Phrase("DNS resolution", Meaning.NO_CONNECTION, f"in the binary of {_GRPC}; not provoked"),
    Phrase("name resolution", Meaning.NO_CONNECTION, "glibc, quoted by gRPC; not provoked"),
    Phrase("protocol is restricted", Meaning.KEY_WANTED, _TRITON),
    Phrase("not at ready state", Meaning.NOT_READY, _TRITON),
    Phrase("no available versions", Meaning.NOT_READY, f"{_TRITON}, which has NOT_FOUND with it"),
    Phrase("no healthy upstream", Meaning.NOT_READY, "Envoy; not provoked"),
)


def meaning_of(details: str) -> Meaning | None:
    """What a message of another program means; ``None`` when it is not known."""
    return next((phrase.meaning for phrase in PHRASES if phrase.words in details), None)
