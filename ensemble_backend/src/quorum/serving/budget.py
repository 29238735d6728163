# SPDX-License-Identifier: Apache-2.0
"""Count what a member or a caller spends per minute and day, in a small file, and say when that is too much.

The file is shared by all processes and servers of a deployment on this machine, and outlives them: it lies
next to ``deploy.yaml``, or in shared memory where that folder cannot be written to.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from quorum.serving.shared_file import SHARED_MEMORY
from quorum_contract import Price, Spent

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """Whose spending is counted: its name in messages, and the folder of the counts next to deploy.yaml."""

    noun: str
    folder: str


MEMBERS, CALLERS = Kind("member", ".quorum/budgets"), Kind("caller", ".quorum/quotas")
WINDOWS_S = {"minute": 60, "day": 86_400}
_MARK_BYTES, _RECENT = 8, 50
_LAYOUT = struct.Struct(f"<8sqqdqqddq{_MARK_BYTES}s")
_MAGIC = b"qbudget2"
_ROUNDING = 1e-9
_LOCK_TRIES, _LOCK_PAUSE_S = 20, 0.001


@dataclass(frozen=True, slots=True)
class Window:
    """What was spent in one minute or day, by its number since the epoch."""

    number: int = 0
    calls: int = 0
    cost: float = 0.0

    def at(self, number: int) -> Window:
        """The window of that number: this one, or an empty one.

        A clock that is set back by less than a window renews no budget: the later window goes on.
        """
        return self if self.number - 1 <= number <= self.number else Window(number)

    def plus(self, calls: int, cost: float) -> Window:
        """The window with more spent."""
        return replace(self, calls=max(0, self.calls + calls), cost=max(0.0, self.cost + cost))


@dataclass(frozen=True, slots=True)
class Counts:
    """The content of the file: the windows, and what calls have cost lately.

    Attributes:
        minute: The last minute with a call.
        day: The last day with a call.
        usual_cost: Of a call, on average: of all with a known cost, and the later the more once these are
            more than :data:`_RECENT`.
        priced: Number of these, at most ``_RECENT``.
        price: Mark of the price that they had (:func:`_mark_of`).
    """

    minute: Window = Window()
    day: Window = Window()
    usual_cost: float = 0.0
    priced: int = 0
    price: bytes = bytes(_MARK_BYTES)

    def with_price(self, mark: bytes) -> Counts:
        """The counts, for calls with another price than those so far: what one costs is not known yet."""
        return self if self.price == mark else replace(self, usual_cost=0.0, priced=0, price=mark)

    def plus_priced(self, cost: float) -> Counts:
        """With one more call whose cost is known."""
        priced = min(self.priced + 1, _RECENT)
        usual = self.usual_cost + (cost - self.usual_cost) / priced
        return replace(self, usual_cost=usual, priced=priced)

    def pack(self) -> bytes:
        """The bytes of the file."""
        minute, day = self.minute, self.day
        return _LAYOUT.pack(
            _MAGIC, minute.number, minute.calls, minute.cost, day.number, day.calls, day.cost,
            self.usual_cost, self.priced, self.price,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Counts:
        """Inverse of :meth:`pack`; raises ValueError for other bytes. A new file has none."""
        if not data:
            return cls()
        if len(data) != _LAYOUT.size or not data.startswith(_MAGIC):
            raise ValueError("not the counts of a budget")
        _, minute, minute_calls, minute_cost, day, day_calls, day_cost, usual, priced, mark = _LAYOUT.unpack(
            data
        )
        numbers = (minute_calls, minute_cost, day_calls, day_cost, usual, priced)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("counts that cannot be")
        return cls(
            Window(minute, minute_calls, minute_cost), Window(day, day_calls, day_cost), usual, priced, mark
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that was let through, and what was set aside for it, in these windows."""

    cost: float
    minute: int
    day: int


class Budget:
    """The budget of one member or caller. Money is set aside for calls in flight, by what they cost lately.

    Args:
        name: Of the member or caller.
        limits: ``per_minute`` and ``per_day`` in money, ``calls_per_minute`` and ``calls_per_day``; None:
            no limit.
        price: Of its calls; None where only calls are limited, or what they cost is given to :meth:`count`.
        root: The folder of ``deploy.yaml``.
        kind: Whether it is a member or a caller.

    Attributes:
        spent_limits: Which limits refused the last call that was refused, in words.
    """

    def __init__(
        self,
        name: str,
        limits: Mapping[str, Any],
        price: Price | None,
        root: Path,
        kind: Kind = MEMBERS,
    ) -> None:
        self._owner, self._price, self._mark = f"{kind.noun} {name}", price, _mark_of(price)
        self._money = limits.get("per_minute"), limits.get("per_day")
        self._calls = limits.get("calls_per_minute"), limits.get("calls_per_day")
        self._noun = "requests" if kind is CALLERS else "calls"
        self.spent_limits = ""
        self._lock = threading.Lock()
        self._file = open_counts(root, name, kind)
        self._spent_in: tuple[int, int] | None = None

    def take(self) -> Hold | None:
        """Let a call through; None: the budget is spent."""
        with self._changing() as now:
            counts = now.counts.with_price(self._mark)
            usual = counts.usual_cost
            minute, day = counts.minute.at(now.minute), counts.day.at(now.day)
            if any(self._spent(minute, day, usual).values()):
                self.spent_limits = self._limits_in_words(minute, day, usual)
                self._note(minute, day)
                return None
            now.counts = replace(counts, minute=minute.plus(1, usual), day=day.plus(1, usual))
            return Hold(usual, minute.number, day.number)

    def settle(self, hold: Hold, spent: Spent) -> None:
        """Count what the call took; where its cost is not known, what was set aside or is known of it."""
        cost = self._price.of(spent) if self._price else 0.0
        least = self._price.of_known(spent) if self._price else 0.0
        self.count(hold, int(spent.calls), cost, least)

    def count(self, hold: Hold, calls: int, cost: float | None, least: float = 0.0) -> None:
        """Count the calls that were made, 0 for none, and their cost.

        Where the cost is not known, what was set aside is counted, or ``least`` if that is more.
        """
        known = cost is not None and calls > 0
        if cost is None:
            cost = max(hold.cost, least)
        more = calls - 1, cost - hold.cost
        with self._changing() as now:
            counts = now.counts.with_price(self._mark)
            minute, day = counts.minute.at(now.minute), counts.day.at(now.day)
            # What was set aside in a window that is over stays there.
            minute = minute.plus(*more) if hold.minute == minute.number else minute
            day = day.plus(*more) if hold.day == day.number else day
            counts = counts.plus_priced(cost) if known else counts
            now.counts = replace(counts, minute=minute, day=day)

    def renews_in_s(self) -> float:
        """Seconds until the windows that are spent are over; 0: none is."""
        with self._changing() as now:
            counts, seconds = now.counts.with_price(self._mark), time.time()
            minute, day = counts.minute.at(now.minute), counts.day.at(now.day)
            spent = self._spent(minute, day, counts.usual_cost)
            numbers = {"minute": minute.number, "day": day.number}
            ends = [(numbers[name] + 1) * WINDOWS_S[name] for name, is_spent in spent.items() if is_spent]
        return max(ends, default=seconds) - seconds

    def _spent(self, minute: Window, day: Window, usual: float) -> dict[str, bool]:
        """Which of the windows are spent."""
        return {
            "minute": self._is_spent(minute, self._calls[0], self._money[0], usual),
            "day": self._is_spent(day, self._calls[1], self._money[1], usual),
        }

    def _limits_in_words(self, minute: Window, day: Window, usual: float) -> str:
        """The limits that are spent: "600 requests per minute, cost of 5 per day"."""
        found = []
        for name, window, calls, money in zip(
            WINDOWS_S, (minute, day), self._calls, self._money, strict=True
        ):
            if self._is_spent(window, calls, None, usual):
                found.append(f"{calls} {self._noun} per {name}")
            if self._is_spent(window, None, money, usual):
                found.append(f"cost of {money:.6g} per {name}")
        return ", ".join(found)

    @staticmethod
    def _is_spent(window: Window, calls: int | None, money: float | None, usual: float) -> bool:
        if calls is not None and window.calls >= calls:
            return True
        # The first calls are let through: what one costs is not known yet. So is the first of a window: calls
        # that cost more than the limit would else never be made again, and never be found to cost less.
        return (
            money is not None
            and bool(window.calls)
            and (window.cost >= money * (1 - _ROUNDING) or window.cost + usual > money * (1 + _ROUNDING))
        )

    def _note(self, minute: Window, day: Window) -> None:
        """Log that the budget is spent, once for each window."""
        if self._spent_in != (minute.number, day.number):
            self._spent_in = minute.number, day.number
            logger.warning(
                "%s: its %s is spent (%s): %d %s, cost %.6g this minute; %d %s, cost %.6g today",
                self._owner, "quota" if self._noun == "requests" else "budget", self.spent_limits,
                minute.calls, self._noun, minute.cost, day.calls, self._noun, day.cost,
            )  # fmt: skip

    def _read(self) -> Counts:
        try:
            return Counts.unpack(os.pread(self._file, _LAYOUT.size + 1, 0))
        except ValueError as error:
            logger.warning(
                "%s: the file of what it spent holds %s: it is damaged, or of another release; what"
                " was spent so far is counted as 0",
                self._owner, error,
            )  # fmt: skip
            os.ftruncate(self._file, 0)
            return Counts()

    @contextmanager
    def _changing(self) -> Iterator[_Now]:
        """Read the counts, and write them back if they were replaced, while no other process does."""
        with self._lock:
            _lock(self._file)
            try:
                before = self._read()
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


def _lock(file: int) -> None:
    """Lock the file; raises TimeoutError where another process, which may have stopped, holds it."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return
    raise TimeoutError("another process holds its lock")


def _mark_of(price: Price | None) -> bytes:
    """Tells prices apart."""
    return hashlib.sha256(repr(price).encode()).digest()[:_MARK_BYTES]


def open_counts(root: Path, name: str, kind: Kind = MEMBERS) -> int:
    """Open the file of the counts of a member or caller, and return its descriptor.

    Raises:
        OSError: Neither the folder nor shared memory can be written to.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    path, shared = counts_path(root, name, kind), _shared_path(root, name, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError as error:
        logger.warning(
            "%s %s: %s cannot be written (%s); what it spends is counted in %s, until this machine or"
            " container starts again",
            kind.noun, name, path, error.strerror, shared,
        )  # fmt: skip
        return os.open(shared, flags, 0o600)


def read_windows(root: Path, name: str, kind: Kind = MEMBERS) -> tuple[Window, Window]:
    """What was spent in this minute and on this day; nothing where no file says it."""
    path, seconds = counts_path(root, name, kind), time.time()
    try:
        counts = Counts.unpack((path if path.exists() else _shared_path(root, name, kind)).read_bytes())
    except (OSError, ValueError):
        counts = Counts()
    minute, day = (int(seconds // length_s) for length_s in WINDOWS_S.values())
    return counts.minute.at(minute), counts.day.at(day)


def _shared_path(root: Path, name: str, kind: Kind) -> Path:
    mark = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return SHARED_MEMORY / f"quorum-{Path(kind.folder).name.removesuffix('s')}-{mark}-{name}"


def counts_path(root: Path, name: str, kind: Kind = MEMBERS) -> Path:
    """The file of the counts of a member or caller."""
    return root / kind.folder / name
