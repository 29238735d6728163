# SPDX-License-Identifier: Apache-2.0
"""Call functions at deadlines, so that a runtime that hangs cannot hang a request."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count

logger = logging.getLogger(__name__)

_NEVER_NS = 1 << 62


class Deadlines:
    """Calls functions at their deadlines, on one thread, so that a hanging runtime cannot hang a request."""

    def __init__(self) -> None:
        # (deadline, unique number, entry): the number keeps the heap from comparing entries.
        self._heap: list[tuple[int, int, _Deadline]] = []
        self._numbers = count()
        self._wake = threading.Condition(threading.Lock())
        self._open = True
        self._wakes_ns = _NEVER_NS
        self._thread = threading.Thread(target=self._run, name="quorum-deadlines", daemon=True)
        self._thread.start()

    def add(self, deadline_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` at ``deadline_ns`` on the monotonic clock, or a little later.

        Returns:
            A function that cancels the call, at any time and more than once.
        """
        entry = _Deadline(call)
        with self._wake:
            self._drop_cancelled()
            heapq.heappush(self._heap, (deadline_ns, next(self._numbers), entry))
            if deadline_ns < self._wakes_ns:
                self._wakes_ns = deadline_ns
                self._wake.notify()
        return entry.cancel

    def close(self) -> None:
        """Stop the thread and make all pending calls at once."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join()
        for _, _, entry in self._heap:
            entry.fire()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._open:
                    return
                self._drop_cancelled()
                # Nearly all deadlines are cancelled. The thread sleeps until the cancelled time anyway: a
                # wake-up by the next question would cost that question a thread switch.
                now = time.monotonic_ns()
                if self._heap:
                    self._wakes_ns = self._heap[0][0]
                elif self._wakes_ns <= now:
                    self._wakes_ns = _NEVER_NS
                wait_ns = self._wakes_ns - now
                if wait_ns > 0:
                    self._wake.wait(min(wait_ns / 1e9, threading.TIMEOUT_MAX))
                    continue
                _, _, entry = heapq.heappop(self._heap)
            entry.fire()

    def _drop_cancelled(self) -> None:
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)


class _Deadline:
    """A pending call; fires at most once."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is None:
            return
        try:
            call()
        except Exception:
            # Without its thread no later deadline would be kept.
            logger.exception("a call at a deadline failed")
