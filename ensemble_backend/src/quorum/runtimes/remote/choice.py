# SPDX-License-Identifier: Apache-2.0
"""Choose which of several endpoints is asked, by their health."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from quorum.runtimes.remote.breaker import State
from quorum.runtimes.remote.endpoint import Endpoint


class Choice(NamedTuple):
    """An endpoint that may be asked now, or when to look again.

    Attributes:
        endpoint: The one to ask; None: none is ready.
        look_at: When one is ready; inf: after a request has ended.
        all_open: Whether the breakers of all keep requests from being sent.
    """

    endpoint: Endpoint | None
    look_at: float
    all_open: bool


def choose(
    endpoints: Sequence[Endpoint], now: float, tokens: int, avoid: Collection[Endpoint] = ()
) -> Choice:
    """Choose the endpoint that will answer soonest; one whose breaker lets a probe through comes first.

    So an endpoint that was down is found to be well again while others answer.

    Args:
        endpoints: At least one.
        now: Of the endpoints' clock.
        tokens: Of the request.
        avoid: Endpoints that are asked only if all others are open: those that failed this question.
    """
    awake = [endpoint for endpoint in endpoints if not endpoint.is_open(now)]
    candidates = [endpoint for endpoint in awake if endpoint not in avoid] or awake
    ready = [endpoint for endpoint in candidates if endpoint.ready_at(now, tokens) <= now]
    if ready:
        best = min(ready, key=lambda e: (e.state is State.CLOSED, e.expected_s))
        return Choice(best, now, False)
    look_at = min((endpoint.ready_at(now, tokens) for endpoint in candidates), default=math.inf)
    return Choice(None, look_at, not awake)


def rate_of(endpoints: Sequence[Endpoint]) -> float:
    """Requests per second that their limits allow; inf without limits."""
    return sum(endpoint.rate for endpoint in endpoints)
