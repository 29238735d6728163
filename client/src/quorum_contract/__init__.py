# SPDX-License-Identifier: Apache-2.0
"""The wire contract: tensor names, statuses and limits that clients, configs and models agree on.

One request is one product text and the ``A`` attributes wanted of it. The ensembles have no batch
dimension (``max_batch_size: 0``), so the shapes below are exact; ``N`` is the number of members.

========================  =====  ======  ==========================================================
tensor                    dtype  shape   meaning
========================  =====  ======  ==========================================================
``TEXT``                  BYTES  [1]     product title and description, UTF-8
``CATEGORY``              BYTES  [1]     product category, may be empty
``ATTRIBUTES``            BYTES  [A]     attribute names, no duplicates
``VALUES``                BYTES  [A]     decision per attribute; empty when no member answered
``CONFIDENCE``            FP32   [A]     in [0, 1]; 0 when no member answered
``MEMBERS``               BYTES  [N]     member names, in the order of the two tensors below
``MEMBER_VALUES``         BYTES  [N, A]  each vote after normalisation; empty for an abstention
``MEMBER_STATUS``         INT32  [N, A]  a :class:`Status`
``WEIGHTS_VERSION``       INT64  [1]     version of ``quorum_vote`` that decided
``CANARY_SHARE``          FP64   [1]     share of the products that the canary channel is to answer
========================  =====  ======  ==========================================================
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import IntEnum

TEXT = "TEXT"
CATEGORY = "CATEGORY"
ATTRIBUTES = "ATTRIBUTES"
VALUES = "VALUES"
CONFIDENCE = "CONFIDENCE"
MEMBERS = "MEMBERS"
MEMBER_VALUES = "MEMBER_VALUES"
MEMBER_STATUS = "MEMBER_STATUS"
WEIGHTS_VERSION = "WEIGHTS_VERSION"
CANARY_SHARE = "CANARY_SHARE"

# Between the steps of the ensemble only; never seen by a client.
QUESTION = "QUESTION"
VOTES = "VOTES"

GATE = "quorum_gate"
VOTE = "quorum_vote"
MEMBER_BACKEND = "quorum_member"
STABLE = "quorum"
CANARY = "quorum_canary"
CHANNELS = (STABLE, CANARY)

NOT_APPLICABLE = "n/a"
"""The value that says *the text does not say*: a vote like any other, not an abstention."""

MAX_TEXT_BYTES = 32_768
MAX_CATEGORY_BYTES = 256
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_BYTES = 128


class Status(IntEnum):
    """What became of one member's vote on one attribute; everything but ``ANSWERED`` is an abstention."""

    ANSWERED = 0
    TIMEOUT = 1
    OVERLOADED = 2
    ERROR = 3
    UNPARSABLE = 4
    NOT_ASKED = 5
    REFUSED = 6


class InvalidRequest(ValueError):
    """The request breaks the contract; the message says which tensor, what is wrong and the mend."""


def decode(raw: object, tensor: str, limit: int) -> str:
    """Decode one BYTES element as UTF-8 within ``limit`` bytes.

    Raises:
        InvalidRequest: Not bytes, too long, or not UTF-8.
    """
    if not isinstance(raw, bytes):
        raise InvalidRequest(f"{tensor}: expected BYTES elements, got {type(raw).__name__}")
    if len(raw) > limit:
        raise InvalidRequest(f"{tensor}: {len(raw)} bytes, the limit is {limit}; shorten it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{tensor}: not UTF-8 at byte {error.start}; send UTF-8 text") from None


def check_text(text: str) -> None:
    """Refuse a product text with nothing to read in it.

    Raises:
        InvalidRequest: ``text`` is empty or only white space.
    """
    if not text.strip():
        raise InvalidRequest(f"{TEXT}: empty; send the product title or description")


def check_attributes(attributes: Sequence[str]) -> None:
    """Refuse attribute lists that no answer could be matched to.

    Raises:
        InvalidRequest: No attribute, too many, an empty name, white space around a name, control characters,
            or two names that are the same without regard to case: LLMs do not keep either.
    """
    if not attributes:
        raise InvalidRequest(f"{ATTRIBUTES}: empty; name at least one attribute")
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidRequest(
            f"{ATTRIBUTES}: {len(attributes)} names, the limit is {MAX_ATTRIBUTES}; split it"
        )
    seen: set[str] = set()
    for name in attributes:
        if not name.strip():
            raise InvalidRequest(f"{ATTRIBUTES}: an empty name; remove it")
        if any(unicodedata.category(ch) == "Cc" for ch in name):
            raise InvalidRequest(f"{ATTRIBUTES}: {name!r} holds control characters; remove them")
        if name != name.strip():
            raise InvalidRequest(f"{ATTRIBUTES}: {name!r} has white space around it; remove it")
        if name.casefold() in seen:
            raise InvalidRequest(
                f"{ATTRIBUTES}: {name!r} twice, without regard to case; name each attribute once"
            )
        seen.add(name.casefold())
