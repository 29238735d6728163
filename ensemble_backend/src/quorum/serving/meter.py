# SPDX-License-Identifier: Apache-2.0
"""Share a runtime's working time out among the questions that it works on at once."""

from __future__ import annotations

import threading
import time


class Meter:
    """Shared by the members of one LLM: the shares of its questions add up to the time that it worked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._shared_s, self._at_s = 0, 0.0, 0.0

    def start(self) -> Turn:
        """Begin work on a question."""
        return Turn(self, self.move(1))

    def move(self, step: int) -> float:
        """Change the number of questions inside; returns the seconds of one that was there all the time."""
        with self._lock:
            now_s = time.monotonic()
            if self._inside:
                self._shared_s += (now_s - self._at_s) / self._inside
            self._at_s = now_s
            self._inside += step
            return self._shared_s


class Turn:
    """The work on one question."""

    __slots__ = ("_begin_s", "_meter", "_taken_s")

    def __init__(self, meter: Meter, begin_s: float) -> None:
        self._meter, self._begin_s = meter, begin_s
        self._taken_s: float | None = None

    def end(self) -> float:
        """End it; returns its share of the time, seconds, also when called again."""
        if self._taken_s is None:
            self._taken_s = self._meter.move(-1) - self._begin_s
        return self._taken_s
