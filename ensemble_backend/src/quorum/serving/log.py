# SPDX-License-Identifier: Apache-2.0
"""Limit how often the steps log one fault, so that a member that fails each request fills no disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_INTERVAL_S = 1.0
_MOST_FAULTS = 1024

Fault = tuple[str, int, str, object]


class RepeatLimit(logging.Filter):
    """Passes one record per second of each fault, with the number left out since as ``record.left_out``.

    A fault is a place in the code, the first argument there (the member), and the type of the exception.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lock = clock, threading.Lock()
        # When the last record of a fault passed, and how many were left out since.
        self._faults: dict[Fault, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        first = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        fault = (record.pathname, record.lineno, first, record.exc_info and record.exc_info[0])
        with self._lock:
            now = self._clock()
            passed, left_out = self._faults.get(fault, (now - _INTERVAL_S, 0))
            if now - passed < _INTERVAL_S:
                self._faults[fault] = passed, left_out + 1
                return False
            if len(self._faults) >= _MOST_FAULTS:
                self._faults.clear()
            self._faults[fault] = now, 0
        record.left_out = left_out
        return True


class RepeatFormatter(logging.Formatter):
    """Writes a fault whole, with the time in UTC; one that came again and again as one line.

    That has the number of times and no traceback.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s UTC %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record that passed a :class:`RepeatLimit`."""
        left_out = getattr(record, "left_out", 0)
        if not left_out:
            return super().format(record)
        error = f": {record.exc_info[1]!r}" if record.exc_info else ""
        at = self.formatTime(record, self.datefmt)
        return f"{at} UTC {record.getMessage()}{error} ({left_out} more since the last line of this fault)"


def limit_repeats() -> None:
    """Log warnings and errors of this process to standard error, each fault once per second at most."""
    log = logging.getLogger("quorum")
    if any(isinstance(known, RepeatLimit) for handler in log.handlers for known in handler.filters):
        return
    handler = logging.StreamHandler()
    handler.addFilter(RepeatLimit())
    handler.setFormatter(RepeatFormatter())
    log.addHandler(handler)
