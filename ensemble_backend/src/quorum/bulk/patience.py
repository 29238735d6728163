# SPDX-License-Identifier: Apache-2.0
"""Decide what becomes of a row that failed, and for how long a job waits for its server."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

from quorum.bulk.callbacks import Note
from quorum.bulk.durations import in_words
from quorum.server.probe import PROBE_TIMEOUT_S
from quorum_client import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from quorum_contract.errors import QuorumError

STRIKES = 3
"""A row that the connection breaks off at, or the server hangs at, so often, while the server is well in
between, has failed."""
MOST_FAILURES = 100
"""Where more rows than these fail in a row, with no answer in between, the server is broken."""
_FIRST_PAUSE_S, _LAST_PAUSE_S, _JITTER = 0.1, 10.0, 0.2
_MOST_DOUBLED = 10
_SILENT = 0.8
_AWAY = Unavailable | ChannelNotFound | DeadlineExceeded
_LEAST_PROBE_S = 2.0
Answered = TypeVar("Answered")


class NoVotes(QuorumError):
    """No member answered a row, as some failed; the message says who failed how."""

    code = "NO_VOTES"


class Fate(Enum):
    """What becomes of a row that failed.

    KEEP: the error is its outcome. AGAIN: it is asked again. ALONE: it is asked again with no other in
    flight, as it may be what breaks the server.
    """

    KEEP = auto()
    AGAIN = auto()
    ALONE = auto()


class Patience:
    """Waits for a server that is away, full or starting, for a time that any answer ends.

    Args:
        seconds: How long, in seconds.
        note: Takes a remark when a wait begins, and when it ends.
        remind: Called with the time by which an answer must have come, by the clock of
            :func:`time.monotonic`; None: no wait is on.
        timeout_s: Deadline of a call, seconds. A call that is late while nothing else was answered for most
            of that time tells that the server hangs, and not that its row is to blame.

    Attributes:
        seconds: As given.
        reason: Of the last wait; None: there was none.
        in_doubt: Whether a connection broke, or the server hung, since the last answer: it, or a row, is why.
    """

    def __init__(
        self,
        seconds: float,
        note: Note,
        remind: Callable[[float | None], None] = lambda _: None,
        timeout_s: float = math.inf,
    ) -> None:
        self.seconds = seconds
        self._silent_s, self._answered_at = _SILENT * timeout_s, time.monotonic()
        self._note, self._remind = note, remind
        self._since: float | None = None
        self._pauses = 0
        self._full_noted = False
        self._answers = self._failures = 0
        self._is_held = False
        self._strikes: dict[int, tuple[int, int]] = {}
        self.in_doubt = False
        self.reason: QuorumError | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing was answered since the server was found away or full."""
        return self._since is not None

    def fate(self, row: int, error: QuorumError) -> Fate:
        """What becomes of a row that ended with this error."""
        hangs = isinstance(error, DeadlineExceeded) and self._is_silent
        if not (hangs or isinstance(error, Unavailable | ChannelNotFound)):
            self._failures += not isinstance(error, InvalidRequest)
            if self._failures <= MOST_FAILURES:
                return Fate.KEEP
            # It is not the rows: the rest of the job is not to fail too.
            self.wait(error)
            return Fate.AGAIN
        self.wait(error)
        if not (hangs or isinstance(error, Disconnected)):
            return Fate.AGAIN
        self.in_doubt = True
        strikes, at = self._strikes.get(row, (0, -1))
        # Where nothing is answered in between it is the server that is broken, and not the row.
        if self._answers > at:
            strikes += 1
        self._strikes[row] = strikes, self._answers
        if strikes < STRIKES:
            return Fate.ALONE if strikes > 1 else Fate.AGAIN
        self._failures += 1
        return Fate.KEEP if self._failures <= MOST_FAILURES else Fate.ALONE

    @property
    def _is_silent(self) -> bool:
        """Whether nothing was answered for most of a deadline."""
        return time.monotonic() - self._answered_at >= self._silent_s

    def on_wait(self, reason: QuorumError | None) -> None:
        """Take the reason of a wait of the client, and its end, see :data:`quorum_client.OnWait`."""
        # An answer that came before the wait may be read after it began: it does not end it.
        self._is_held = reason is not None
        if reason is not None:
            self.wait(reason)

    def wait(self, reason: QuorumError) -> None:
        """Begin to wait, or go on with it."""
        self.reason = reason
        if self._since is None:
            self._since = time.monotonic()
            self._remind(self._since + self.seconds)
            is_full = isinstance(reason, Overloaded)
            if self.seconds and not (is_full and self._full_noted):
                state = "full" if is_full else "away" if isinstance(reason, _AWAY) else "failing"
                self._note(f"the server is {state}: waiting up to {in_words(self.seconds)} for it ({reason})")
            self._full_noted |= is_full

    @property
    def is_over(self) -> bool:
        """Whether the server was away for longer than the patience."""
        return self._since is not None and time.monotonic() - self._since >= self.seconds

    def answered(self, row: int = -1) -> None:
        """Take note of an answer, to this row: the wait is over."""
        self._answers += 1
        self._answered_at = time.monotonic()
        self._failures = 0
        self.in_doubt = False
        self._strikes.pop(row, None)
        self._pauses = 0
        if self._since is None or self._is_held:
            return
        waited_s, self._since = time.monotonic() - self._since, None
        self._remind(None)
        if not isinstance(self.reason, Overloaded):
            self._note(f"the server answers again after {in_words(waited_s)}")

    def well(self) -> None:
        """Take note that the server says it is well after a connection broke: a row may have broken it.

        It counts as an answer in between, and the wait begins anew, until too many rows have failed so.
        """
        self.in_doubt = False
        self._pauses = 0
        self._answers += 1
        if self._since is not None and self._failures <= MOST_FAILURES:
            self._since = time.monotonic()
            self._remind(self._since + self.seconds)

    def next_pause_s(self) -> float:
        """Seconds to pause before the next attempt: longer each time until an answer comes."""
        pause_s = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._pauses, _MOST_DOUBLED))
        self._pauses += 1
        return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)


def wait_for(ask: Callable[[float], Answered], seconds: float, note: Note) -> Answered:
    """Ask a server until it answers; what it answers.

    Args:
        ask: Asks it once, within seconds.
        seconds: How long to wait for it, seconds.
        note: Takes remarks.

    Raises:
        quorum_client.QuorumError: It does not answer within that time, or refuses.
    """
    patience = Patience(seconds, note)
    # Of several servers one may hang: there is time to ask another, though a busy one gets some too.
    timeout_s = min(PROBE_TIMEOUT_S, max(_LEAST_PROBE_S, seconds / 2))
    while True:
        try:
            found = ask(timeout_s)
        except (Unavailable, ChannelNotFound, DeadlineExceeded) as error:
            patience.wait(error)
            if patience.is_over:
                raise
            time.sleep(patience.next_pause_s())
        else:
            patience.answered()
            return found
