# SPDX-License-Identifier: Apache-2.0
"""Limit how often the steps log one fault, so that a member that fails each request fills no disk.

They write text, or lines of JSON with the ids of the request.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

LOG_FORMAT = "QUORUM_LOG_FORMAT"
"""Environment variable of a server: ``json`` for lines of JSON."""
JSON, TEXT = "json", "text"
_INTERVAL_S = 1.0
_MOST_FAULTS = 1024

Fault = tuple[str, int, str, object]


class RepeatLimit(logging.Filter):
    """Passes one record per interval of each fault, with the number left out since as ``record.left_out``.

    A fault is a place in the code, the first argument there (the member), and the type of the exception.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval_s: float = _INTERVAL_S) -> None:
        super().__init__()
        self._clock, self._lock, self._interval_s = clock, threading.Lock(), interval_s
        # When the last record of a fault passed, and how many were left out since.
        self._faults: dict[Fault, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        fault = (record.pathname, record.lineno, _first_of(record), record.exc_info and record.exc_info[0])
        with self._lock:
            now = self._clock()
            passed, left_out = self._faults.get(fault, (now - self._interval_s, 0))
            if now - passed < self._interval_s:
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


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, see :func:`json_line`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record that passed a :class:`RepeatLimit`."""
        members, left_out = _own.members, getattr(record, "left_out", 0)
        first = members[0] if len(members) == 1 else _first_of(record)
        more = {
            "step": _own.step,
            "member": first if first in members else "",
            "request_id": getattr(_request, "id", ""),
            "trace_id": getattr(_request, "trace_id", ""),
            "left_out": left_out,
        }
        if record.exc_info and record.exc_info[1]:
            more["error"] = repr(record.exc_info[1])
            more["traceback"] = "" if left_out else self.formatException(record.exc_info)
        level = record.levelname.lower()
        return json_line(record.created, level, record.name, record.getMessage(), more)


def json_line(at: float, level: str, source: str, message: str, more: dict[str, Any] | None = None) -> str:
    """Format one line of a log as JSON: ``time`` (UTC), ``level``, ``logger``, ``message``, and others.

    Args:
        at: Seconds since the epoch.
        level: ``info``, ``warning``, ``error``.
        source: Whose line it is.
        message: May have several lines.
        more: Other fields; empty ones are left out.
    """
    seconds, fraction = divmod(at, 1)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(fraction * 1e6):06d}Z"
    fields = {"time": when, "level": level, "logger": source, "message": message}
    return msgspec.json.encode(fields | {key: x for key, x in (more or {}).items() if x}).decode()


class _Own:
    """Which step this process is."""

    step = ""
    members: Sequence[str] = ()


_own, _request = _Own(), threading.local()


def log_as(step: str, members: Sequence[str] = ()) -> None:
    """Name the step, and the members, that lines of this process are about."""
    _own.step, _own.members = step, members


def about(request_id: str, trace_id: str) -> None:
    """Say which request lines of this thread are about from now on."""
    _request.id, _request.trace_id = request_id, trace_id


def is_json() -> bool:
    """Whether this process logs lines of JSON."""
    return os.environ.get(LOG_FORMAT) == JSON


def limit_repeats(name: str = "quorum", interval_s: float = _INTERVAL_S) -> None:
    """Log warnings and errors of this process to standard error, each fault once per interval at most."""
    log = logging.getLogger(name)
    if any(isinstance(known, RepeatLimit) for handler in log.handlers for known in handler.filters):
        return
    handler = logging.StreamHandler()
    handler.addFilter(RepeatLimit(interval_s=interval_s))
    handler.setFormatter(JsonFormatter() if is_json() else RepeatFormatter())
    log.addHandler(handler)


def _first_of(record: logging.LogRecord) -> str:
    """The first argument of a record: the member, where it is about one."""
    return str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
