# SPDX-License-Identifier: Apache-2.0
"""Ask a second server when the first is slow, for a small share of the calls.

Dean and Barroso, "The tail at scale", CACM 2013: a second request after the 95th percentile of the latency
cuts the tail, and costs 5 % more requests at most. The share is a budget too, so that servers that are all
slow are not asked twice as much.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

from quorum_client.errors import InvalidRequest

P95: Final = "p95"
Hedge = float | Literal["p95"]

_KNOWN, _ENOUGH, _SORT_EVERY = 200, 20, 20
_SAVED = 10.0


class Hedges:
    """When the calls of a client are asked of a second server.

    Args:
        after: Seconds without an answer; ``"p95"``: what 95 % of the last 200 calls took at most; ``None``:
            never.
        share: The most hedges per call, in (0, 1].
        servers: How many servers there are.

    Raises:
        InvalidRequest: A setting cannot work.
    """

    def __init__(self, after: Hedge | None, share: float, servers: int) -> None:
        if after is not None and after != P95 and not _is_time(after):
            raise InvalidRequest(f"hedge_s: {after!r}; give seconds above 0, {P95!r}, or None")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InvalidRequest(f"hedge_share: {share!r}; give a share of the calls, above 0 and at most 1")
        if after is not None and servers < 2:
            raise InvalidRequest(f"hedge_s: {after!r} with one server; give several in url, or None")
        self._after, self._share = after, share
        self._saved = 1.0
        self._latencies: deque[float] = deque(maxlen=_KNOWN)
        self._until_sorted = 0
        self._p95_s: float | None = None

    def delay_s(self) -> float | None:
        """After how many seconds a call is to be hedged; ``None``: it is not."""
        if self._after is None:
            return None
        self._saved = min(_SAVED, self._saved + self._share)
        return self._p95_s if isinstance(self._after, str) else self._after

    def take(self) -> bool:
        """Whether there is budget for a hedge, which is spent."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def answered(self, latency_s: float) -> None:
        """Note how long the server that answered took, in seconds."""
        if self._after != P95:
            return
        self._latencies.append(latency_s)
        self._until_sorted -= 1
        if len(self._latencies) >= _ENOUGH and self._until_sorted <= 0:
            self._until_sorted = _SORT_EVERY
            self._p95_s = sorted(self._latencies)[math.ceil(0.95 * len(self._latencies)) - 1]


def _is_time(seconds: object) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf
