# SPDX-License-Identifier: Apache-2.0
"""Route callers to the canary by its share, as our own client does: the same hash, the same products."""

from __future__ import annotations

import struct
from typing import Any

from quorum_client import takes_canary
from quorum_contract import CHANNELS, LAZY_CHANNELS, RECOMMEND_CHANNELS
from quorum_contract.tensors import CANARY_SHARE, COST

PRODUCT_ID_HEADER = "quorum-product-id"
"""Header with the id of the product or item; without it, the hash is of its text."""
_CANARY_OF = dict([CHANNELS, LAZY_CHANNELS, RECOMMEND_CHANNELS])


class Router:
    """Knows the canary's shares from the answers that pass, and chooses the channel of a product.

    Until an answer has given the share of its kind, products go to the stable channel.
    """

    def __init__(self) -> None:
        # The gate gives one share for attributes, in rows or not; the retriever has its own.
        self._shares = {False: 0.0, True: 0.0}

    def channel(self, asked: str, product: str) -> str:
        """The channel for a product: the canary of the one that was asked, if the share takes it.

        Args:
            asked: A public channel; a canary is left as it is.
            product: Its id, else its text.
        """
        canary = _CANARY_OF.get(asked)
        share = self._shares[asked in RECOMMEND_CHANNELS]
        return canary if canary and share and takes_canary(product, share) else asked

    def learn(self, channel: str, share: float | None) -> None:
        """Note the share that an answer of a channel reports; None: it reports none."""
        if share is not None and 0.0 <= share <= 1.0:
            self._shares[channel in RECOMMEND_CHANNELS] = share


def share_of(answer: Any) -> float | None:
    """``CANARY_SHARE`` of a ``ModelInferResponse``; None where it has none."""
    return _number(answer, CANARY_SHARE, "<d")


def cost_of(answer: Any) -> float | None:
    """``COST`` of a ``ModelInferResponse``, NaN where not all of it is known; None where it has none."""
    return _number(answer, COST, "<f")


def _number(answer: Any, name: str, form: str) -> float | None:
    """The number in a tensor of one element, as its raw bytes hold it."""
    if len(answer.outputs) == len(answer.raw_output_contents):
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
            if output.name == name and len(raw) == struct.calcsize(form):
                return float(struct.unpack(form, raw)[0])
    return None
