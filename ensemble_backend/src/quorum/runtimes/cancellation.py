# SPDX-License-Identifier: Apache-2.0
"""Pass on, from any thread to any other, that nothing waits for an answer any more."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Cancellation:
    """A cancellation token: cancelled once and for good. All methods may be called from any thread."""

    __slots__ = ("_calls", "_cancelled")

    def __init__(self) -> None:
        self._cancelled = False
        self._calls: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Make the calls that were registered, here and now; never raises."""
        self._cancelled = True
        self._make_calls()

    def when_cancelled(self, call: Callable[[], None]) -> None:
        """Have ``call`` made once, in the thread that cancels; at once if that has happened already."""
        self._calls.append(call)
        # Whichever of the two threads sees the other's change makes the call; popping is atomic.
        if self._cancelled:
            self._make_calls()

    def disarm(self) -> None:
        """Forget the calls that were registered and have not been made."""
        self._calls.clear()

    def _make_calls(self) -> None:
        while True:
            try:
                call = self._calls.pop()
            except IndexError:
                return
            try:
                call()
            except Exception:
                logger.exception("a cancelled question could not be stopped")
