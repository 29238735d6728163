# SPDX-License-Identifier: Apache-2.0
"""Choose the products of the canary channel: the same ones for every caller, in every language."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from quorum_client.errors import InvalidRequest

SERVED: Final = "served"
"""Stands for *the share that the server reports*, see :class:`quorum_client.Client`."""

Share = float | Literal["served"]


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
