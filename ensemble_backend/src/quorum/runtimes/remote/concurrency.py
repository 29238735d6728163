# SPDX-License-Identifier: Apache-2.0
"""Learn how many requests at once a server answers well."""

from __future__ import annotations

_START = 8.0
_LESS = 0.5


class Concurrency:
    """A limit of requests in flight that grows by one per round of answers, and is halved on overload.

    Additive increase, multiplicative decrease, as TCP's congestion window: Chiu and Jain, 1989. Of several
    requests that were in flight together, one alone halves it.
    """

    def __init__(self, most: int) -> None:
        self._most, self._limit = float(most), min(_START, float(most))
        self._cut_at = float("-inf")
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Most requests in flight now; at least 1."""
        return int(self._limit)

    @property
    def is_full(self) -> bool:
        """Whether no further request may be sent."""
        return self.in_flight >= self.limit

    def enter(self) -> None:
        """Count a request that is sent."""
        self.in_flight += 1

    def leave(self, sent_at: float, now: float, answered: bool, overloaded: bool) -> None:
        """Count one off that was sent at ``sent_at``: it was answered, was too much, or neither."""
        was_used = self.in_flight * 2 >= self.limit
        self.in_flight -= 1
        if overloaded and sent_at >= self._cut_at:
            self._limit, self._cut_at = max(1.0, self._limit * _LESS), now
        elif answered and was_used:
            self._limit = min(self._most, self._limit + 1 / self._limit)
