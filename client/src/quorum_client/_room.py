# SPDX-License-Identifier: Apache-2.0
"""Decide when the calls of a bulk run are sent, so that it fills the server's room and no more."""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 2.0
_JITTER = 0.2
_BACK = 0.75


class Room:
    """The calls in flight of one run: as many as the caller wants, fewer while the server refuses some.

    A refusal means that the server is full, so fewer calls are kept in flight, and the refused one is sent
    again when another of this run is answered: no clock is needed. Only a run without any call in flight
    waits for a while, longer each time. Every answer makes a little more room. The oldest call goes first.
    All methods may be called from any thread.

    Args:
        most: The most calls in flight.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._inside = 0
        self._pauses = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._lock = threading.Lock()

    def ask(self, number: int, start: Callable[[], None]) -> None:
        """Call ``start`` once call ``number`` may be sent; every number waits at most once at a time."""
        with self._lock:
            heapq.heappush(self._waiting, (number, start))
            self._let_in()

    def leave(self, *, answered: bool) -> None:
        """Take note of the end of a call that the server did not refuse."""
        with self._lock:
            self._inside -= 1
            if answered:
                self._pauses = 0
                self._limit = min(self._most, self._limit + 1 / self._limit)
            self._let_in()

    def refused(self, number: int, start: Callable[[], None]) -> float | None:
        """Take note that the server refused call ``number`` because it is full.

        Returns:
            ``None``: ``start`` is called once it may be sent again. Else it is to be sent again after so many
            seconds, without being started.
        """
        with self._lock:
            if self._inside == 1:
                self._limit = 1.0
                pause_s = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2.0**self._pauses)
                self._pauses += 1
                return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._inside -= 1
            self._limit = max(1.0, self._inside * _BACK)
            heapq.heappush(self._waiting, (number, start))
            return None

    def close(self) -> None:
        """Start everything that waits: the run has ended."""
        with self._lock:
            self._limit = float("inf")
            while self._waiting:
                heapq.heappop(self._waiting)[1]()

    def _let_in(self) -> None:
        while self._waiting and self._inside + 1 <= self._limit:
            self._inside += 1
            heapq.heappop(self._waiting)[1]()
