# SPDX-License-Identifier: Apache-2.0
"""How far a job is: rows, rows per second, time left, cost, abstentions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from quorum.bulk.ledger import Counts

_WINDOW_S = 60.0
_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A moment of a job.

    Attributes:
        done: Rows with an outcome, those of earlier runs included.
        total: Rows of the input.
        failed: Rows of ``done`` that have an error.
        bad: Rows that cannot be read.
        rate: Rows per second, over the last minute of this run; None: not known yet.
        eta_s: Seconds to the end at that rate; None: not known.
        cost: Of the answers so far, in the currency of the deployment; None: not known.
        abstained: Share of the votes so far without a value, in [0, 1]; None: no votes yet.
        waits: Whether the job waits for its server.
    """

    done: int
    total: int
    failed: int = 0
    bad: int = 0
    rate: float | None = None
    eta_s: float | None = None
    cost: float | None = None
    abstained: float | None = None
    waits: bool = False


OnProgress = Callable[[JobProgress], None]
"""Called with the state of a job: first, last, a few times a second while something changes, and each second
of a wait."""


class Pace:
    """Rows per second of a run, over its last minute; waits count.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done = 0
        self._points: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self) -> None:
        """Count a row."""
        self._done += 1
        now = self._clock()
        if now - self._points[-1][0] >= _STEP_S:
            self._points.append((now, self._done))
            while len(self._points) > 2 and now - self._points[1][0] >= _WINDOW_S:
                self._points.popleft()

    @property
    def rate(self) -> float | None:
        """Rows per second; None before the first."""
        at, done = self._points[0]
        seconds = self._clock() - at
        return (self._done - done) / seconds if seconds > 0 and self._done > done else None

    def eta_s(self, left: int) -> float | None:
        """Seconds that so many rows take at this rate; None: not known."""
        rate = self.rate
        return left / rate if rate else None


def progress_of(counts: Counts, pace: Pace, *, bad: int = 0, waits: bool = False) -> JobProgress:
    """The state of a job by its ledger; ``bad`` counts bad rows of parts that are not committed."""
    tally, spent = counts.tally, counts.tally.spent
    done = tally.done + bad
    return JobProgress(
        done=done,
        total=counts.rows,
        failed=tally.failed,
        bad=tally.bad + bad,
        rate=pace.rate,
        eta_s=pace.eta_s(counts.rows - done),
        cost=spent.cost if spent.without_cost < spent.answers else None,
        abstained=tally.absent_share,
        waits=waits,
    )
