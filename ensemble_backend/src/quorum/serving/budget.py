# SPDX-License-Identifier: Apache-2.0
"""Count what a member spends per minute and day, in a small file, and say when its budget is spent.

The file is shared by all processes and servers of a deployment on this machine, and outlives them: it lies
beside ``deploy.yaml``, or in shared memory where that folder cannot be written to.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorum.serving.shared_file import SHARED_MEMORY
from quorum_contract import Price, Spent

logger = logging.getLogger(__name__)

FOLDER = ".quorum/budgets"
"""The folder of the counts, beside ``deploy.yaml``."""
WINDOWS_S = {"minute": 60, "day": 86_400}
_LAYOUT = struct.Struct("<8sqqdqqddq")
_MAGIC = b"qbudget1"
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Window:
    """What was spent in one minute or day, by its number since the epoch."""

    number: int = 0
    calls: int = 0
    cost: float = 0.0

    def at(self, number: int) -> Window:
        """The window of that number: this one, or an empty one."""
        return self if self.number == number else Window(number)

    def plus(self, calls: int, cost: float) -> Window:
        """The window with more spent."""
        return replace(self, calls=max(0, self.calls + calls), cost=max(0.0, self.cost + cost))


@dataclass(frozen=True, slots=True)
class Counts:
    """The content of the file: the windows, and how much all priced calls have cost so far.

    Attributes:
        minute: The last minute with a call.
        day: The last day with a call.
        cost: Of all calls with a known cost.
        calls: Number of these.
    """

    minute: Window = Window()
    day: Window = Window()
    cost: float = 0.0
    calls: int = 0

    @property
    def usual_cost(self) -> float:
        """What a call has cost on average."""
        return self.cost / self.calls if self.calls else 0.0

    def pack(self) -> bytes:
        """The bytes of the file."""
        minute, day = self.minute, self.day
        return _LAYOUT.pack(
            _MAGIC, minute.number, minute.calls, minute.cost, day.number, day.calls, day.cost,
            self.cost, self.calls,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Counts:
        """Inverse of :meth:`pack`; another file's bytes are no counts."""
        if len(data) != _LAYOUT.size or not data.startswith(_MAGIC):
            return cls()
        _, minute, minute_calls, minute_cost, day, day_calls, day_cost, cost, calls = _LAYOUT.unpack(data)
        return cls(Window(minute, minute_calls, minute_cost), Window(day, day_calls, day_cost), cost, calls)


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that was let through, and what was set aside for it, in these windows."""

    cost: float
    minute: int
    day: int


class Budget:
    """The budget of one member. Money is set aside for calls in flight, by what calls have cost so far.

    Args:
        member: Its name.
        limits: ``per_minute`` and ``per_day`` in money, ``calls_per_minute`` and ``calls_per_day``; None:
            no limit.
        price: Of its calls; None where only calls are limited.
        root: The folder of ``deploy.yaml``.
    """

    def __init__(self, member: str, limits: Mapping[str, Any], price: Price | None, root: Path) -> None:
        self._member, self._price = member, price
        self._money = limits.get("per_minute"), limits.get("per_day")
        self._calls = limits.get("calls_per_minute"), limits.get("calls_per_day")
        self._lock = threading.Lock()
        self._file = open_counts(root, member)
        self._spent_in: tuple[int, int] | None = None

    def take(self) -> Hold | None:
        """Let a call through; None: the budget is spent."""
        with self._changing() as now:
            counts = now.counts
            usual = counts.usual_cost
            minute, day = counts.minute.at(now.minute), counts.day.at(now.day)
            if (
                self._is_spent(minute, self._calls[0], self._money[0], usual)
                or self._is_spent(day, self._calls[1], self._money[1], usual)
            ):  # fmt: skip
                self._note(minute, day)
                return None
            now.counts = replace(counts, minute=minute.plus(1, usual), day=day.plus(1, usual))
            return Hold(usual, now.minute, now.day)

    def settle(self, hold: Hold, spent: Spent) -> None:
        """Count what the call took; where its cost is not known, what was set aside."""
        cost = self._price.of(spent) if self._price else 0.0
        more = int(spent.calls) - 1, (hold.cost if cost is None else cost) - hold.cost
        with self._changing() as now:
            counts = now.counts
            minute, day = counts.minute.at(now.minute), counts.day.at(now.day)
            # What was set aside in a window that is over stays there.
            minute = minute.plus(*more) if hold.minute == now.minute else minute
            day = day.plus(*more) if hold.day == now.day else day
            known = (counts.cost + cost, counts.calls + 1) if cost is not None and spent.calls else None
            total, calls = known or (counts.cost, counts.calls)
            now.counts = Counts(minute, day, total, calls)

    @staticmethod
    def _is_spent(window: Window, calls: int | None, money: float | None, usual: float) -> bool:
        if calls is not None and window.calls >= calls:
            return True
        # The first calls are let through: what one costs is not known yet.
        return money is not None and (
            window.cost >= money * (1 - _ROUNDING) or window.cost + usual > money * (1 + _ROUNDING)
        )

    def _note(self, minute: Window, day: Window) -> None:
        """Log that the budget is spent, once for each window."""
        if self._spent_in != (minute.number, day.number):
            self._spent_in = minute.number, day.number
            logger.warning(
                "member %s: its budget is spent: %d calls, %.6g this minute; %d calls, %.6g today",
                self._member, minute.calls, minute.cost, day.calls, day.cost,
            )  # fmt: skip

    @contextmanager
    def _changing(self) -> Iterator[_Now]:
        """Read the counts, and write them back if they were replaced, while no other process does."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                before = Counts.unpack(os.pread(self._file, _LAYOUT.size, 0))
                seconds = time.time()
                now = _Now(before, int(seconds // WINDOWS_S["minute"]), int(seconds // WINDOWS_S["day"]))
                yield now
                if now.counts is not before:
                    os.pwrite(self._file, now.counts.pack(), 0)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


@dataclass(slots=True)
class _Now:
    counts: Counts
    minute: int
    day: int


def open_counts(root: Path, member: str) -> int:
    """Open the file of a member's counts, and return its descriptor.

    Raises:
        OSError: Neither the folder nor shared memory can be written to.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    path = counts_path(root, member)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError as error:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        shared = SHARED_MEMORY / f"quorum-budget-{name}-{member}"
        logger.warning(
            "member %s: %s cannot be written (%s); what it spends is counted in %s, until this machine or"
            " container starts again",
            member, path, error.strerror, shared,
        )  # fmt: skip
        return os.open(shared, flags, 0o600)


def counts_path(root: Path, member: str) -> Path:
    """The file of a member's counts."""
    return root / FOLDER / member
