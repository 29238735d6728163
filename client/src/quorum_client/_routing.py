# SPDX-License-Identifier: Apache-2.0
"""Choose the products of the canary channel: the same ones for every caller, in every language."""

from __future__ import annotations

import hashlib
from typing import Final, Literal, NamedTuple

from quorum_client.errors import InvalidRequest
from quorum_contract import CHANNELS, LAZY_CHANNELS, LAZY_OF, RECOMMEND_CHANNELS

SERVED: Final = "served"
"""Stands for *the share that the server reports*, see :class:`quorum_client.Client`."""

Share = float | Literal["served"]


class Channels(NamedTuple):
    """The ensembles that answer one kind of request: the stable one, and the one for the canary's share."""

    stable: str
    canary: str


EXTRACTING, RECOMMENDING = Channels(*CHANNELS), Channels(*RECOMMEND_CHANNELS)
EXTRACTING_LAZILY = Channels(*LAZY_CHANNELS)


def extracting(lazy: bool) -> Channels:
    """The ensembles that answer for attributes, by all members at once or in rows."""
    return EXTRACTING_LAZILY if lazy else EXTRACTING


def lazy_of(own: str, named: str | None) -> str:
    """The lazy channel of a client's own channel, for a call that names none.

    Raises:
        InvalidRequest: The call names a channel, or the client's has no lazy namesake.
    """
    if named is None and own in (*LAZY_OF, *LAZY_CHANNELS):
        return LAZY_OF.get(own, own)
    raise InvalidRequest(
        f"lazy: True with channel {named or own!r}; give one of them, or name "
        f"{' or '.join(map(repr, LAZY_CHANNELS))} as the channel"
    )


def takes_canary(product: str, share: float) -> bool:
    """Whether a product belongs to the canary's share.

    The first 8 bytes of an unkeyed BLAKE2b with ``digest_size`` 8 of the id in UTF-8, read big-endian, are
    below ``floor(share * 2**64)`` (RFC 7693; ``printf %s ID | b2sum -l 64`` prints them). The same product
    takes the same channel in every process, and stays on the canary when the share grows.

    Args:
        product: Identifier of the product; not empty by contract, but any text will do.
        share: In [0, 1]; 0 takes no product, 1 all.
    """
    digest = hashlib.blake2b(product.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < int(share * 2**64)


def check_share(share: object) -> Share | None:
    """Check the ``canary_share`` of a client.

    Raises:
        InvalidRequest: Neither a number in [0, 1], nor ``"served"``, nor ``None``.
    """
    if share is None:
        return None
    if share == SERVED:
        return SERVED
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InvalidRequest(f"canary_share: {share!r}; give a number from 0 to 1, {SERVED!r}, or None")
    return float(share)
