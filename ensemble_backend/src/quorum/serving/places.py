# SPDX-License-Identifier: Apache-2.0
"""Limit how many questions a step holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial


class Places:
    """The places of the questions inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[object] = set()

    def enter(self, limit: int) -> Callable[[], None] | None:
        """Take a place and return an idempotent function that frees it; ``None`` if all are taken."""
        place = object()
        with self._lock:
            if len(self._inside) >= limit:
                return None
            self._inside.add(place)
        return partial(self._inside.discard, place)

    @property
    def inside(self) -> int:
        """How many are taken."""
        return len(self._inside)
