# SPDX-License-Identifier: Apache-2.0
"""Stop asking a server that fails, and find out when it answers again: a circuit breaker."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of a breaker: requests pass, none do, or a single one tries."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "half-open"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens, and for how long.

    Attributes:
        failures: It opens when so many requests failed one after the other, or so many of the last
            ``outcomes``, and at least ``share`` of those.
        pause_s: Seconds from opening to the first probe; doubled after each probe that fails.
        longest_s: Longest such pause.
    """

    failures: int = 5
    share: float = 0.5
    outcomes: int = 20
    pause_s: float = 1.0
    longest_s: float = 30.0


class Breaker:
    """Closed while a server answers. All times are of one clock, in seconds.

    It opens when requests fail (:class:`Rules`), lets a single request through after a pause, and closes
    when that one is answered; else the next pause is twice as long.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._outcomes: deque[bool] = deque(maxlen=self._rules.outcomes)
        self._in_a_row = 0
        self._probe_at: float | None = None
        self._pause_s = self._rules.pause_s
        self._is_probing = False
        self.opened = 0

    @property
    def state(self) -> State:
        """What it does with requests."""
        if self._probe_at is None:
            return State.CLOSED
        return State.PROBING if self._is_probing else State.OPEN

    def passes_at(self, now: float) -> float:
        """When the next request may be sent: ``now``, later, or inf: after the one that tries has ended."""
        if self._probe_at is None:
            return now
        return math.inf if self._is_probing else max(now, self._probe_at)

    def enter(self) -> bool:
        """Count a request that may be sent; returns whether it is a probe."""
        self._is_probing = self._probe_at is not None
        return self._is_probing

    def leave(self, now: float, succeeded: bool | None, is_probe: bool) -> None:
        """Count its end; None: it says nothing of the server, such as one that was not waited for."""
        if is_probe:
            self._is_probing = False
            if succeeded:
                self._probe_at, self._pause_s = None, self._rules.pause_s
                self._outcomes.clear()
                self._in_a_row = 0
            elif succeeded is False:
                self._pause_s = min(self._pause_s * 2, self._rules.longest_s)
                self._probe_at = now + self._pause_s
            return
        # What was sent before it opened says nothing new.
        if self._probe_at is not None or succeeded is None:
            return
        self._outcomes.append(succeeded)
        self._in_a_row = 0 if succeeded else self._in_a_row + 1
        failures = len(self._outcomes) - sum(self._outcomes)
        is_share = failures >= max(self._rules.failures, self._rules.share * len(self._outcomes))
        if self._in_a_row >= self._rules.failures or is_share:
            self._probe_at = now + self._pause_s
            self.opened += 1
