# SPDX-License-Identifier: Apache-2.0
"""Wake up on time: asyncio rounds its sleeps up to whole milliseconds, the kernel's timers do not."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Protocol

_CLOCK_MONOTONIC = 1
_NONBLOCK = os.O_NONBLOCK
_ABSOLUTE = 1


class Clock(Protocol):
    """Clock of a load loop."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""

    async def until(self, when_ns: int) -> None:
        """Return at ``when_ns``, or at once when that is past."""


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Ticker:
    """A ``timerfd`` of the running event loop.

    Raises:
        OSError: The kernel has no timer.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._rings: asyncio.Future[None] | None = None
        self._loop.add_reader(self._file, self._ring)

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    async def until(self, when_ns: int) -> None:
        """Return at ``when_ns``, or at once when that is past."""
        if when_ns <= self.now_ns():
            return
        at_s, at_ns = divmod(when_ns, 1_000_000_000)
        spec = _Spec(0, 0, at_s, at_ns)
        if self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._rings = self._loop.create_future()
        await self._rings

    def close(self) -> None:
        """Close the timer."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _ring(self) -> None:
        os.read(self._file, 8)
        if self._rings and not self._rings.done():
            self._rings.set_result(None)
