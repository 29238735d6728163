# SPDX-License-Identifier: Apache-2.0
"""Keep to a limit of so many requests, or tokens, in any minute."""

from __future__ import annotations

import math
from collections import deque


class Window:
    """At most ``limit`` units in any ``length_s`` seconds, however late the server counts them.

    A unit is taken before a request is sent, and is given back ``length_s`` after the server has surely
    counted it: when its answer began. So a server that counts by a sliding or a fixed window never sees more,
    whatever the network delays. All times are of one clock that never goes back, in seconds.
    """

    def __init__(self, limit: int, length_s: float = 60.0) -> None:
        self.limit, self.length_s = limit, length_s
        self._open = 0
        self._counted: deque[tuple[float, int]] = deque()
        self._total = 0

    def take(self, now: float, units: int) -> int:
        """Take units, which are free (:meth:`free_at`); returns how many were taken: at most ``limit``."""
        self._expire(now)
        units = min(units, self.limit)
        self._open += units
        return units

    def counted(self, now: float, taken: int, real: int | None = None) -> None:
        """Note that the server has counted ``taken`` units, which were ``real`` ones where that is known."""
        self._open -= taken
        units = taken if real is None else real
        self._counted.append((now + self.length_s, units))
        self._total += units

    def free_at(self, now: float, units: int) -> float:
        """When so many units can be taken: ``now``, a later time, or inf: after others were counted."""
        self._expire(now)
        units = min(units, self.limit)
        over = self._open + self._total + units - self.limit
        if over <= 0:
            return now
        for expires, more in self._counted:
            over -= more
            if over <= 0:
                return expires
        return math.inf

    def used(self, now: float) -> int:
        """Units that are taken, or were counted less than ``length_s`` ago."""
        self._expire(now)
        return self._open + self._total

    def _expire(self, now: float) -> None:
        while self._counted and self._counted[0][0] <= now:
            self._total -= self._counted.popleft()[1]
