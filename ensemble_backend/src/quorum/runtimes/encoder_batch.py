# SPDX-License-Identifier: Apache-2.0
"""Batch what an encoder is asked: one thread takes what waits, sorts it by length, and computes it.

Members of runtime ``encoder`` answer questions so, and the retriever recommends keyphrases.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from quorum_contract import Status

logger = logging.getLogger(__name__)

# As in :mod:`quorum.runtimes.hf_dynamic`: callers that were answered last ask again just after a batch.
_WINDOW_S = 0.001
_JOIN_S = 10.0
POOL = 4
"""Batches that are taken at once where so many wait: sorted together they have less padding."""

Row = TypeVar("Row")
Result = TypeVar("Result")


class Waiting(Protocol):
    """Somebody who waits for an answer."""

    @property
    def expired(self) -> bool:
        """Whether the answer is no longer waited for."""


@dataclass(slots=True)
class Job(Generic[Row, Result]):
    """One question.

    Attributes:
        question: Tells whether it is still waited for.
        done: Takes the results, or why there are none; called once.
        rows: What is computed: position among the results -> input.
        results: All of the question, such as a vote per attribute; those of ``rows`` are filled in.
        missing: Rows that are not computed yet.
        settled: Whether ``done`` was called.
    """

    question: Waiting
    done: Callable[[list[Result] | Status], None]
    rows: dict[int, Row]
    results: list[Result]
    missing: int = field(init=False)
    settled: bool = False

    def __post_init__(self) -> None:
        self.missing = len(self.rows)

    def settle(self, reply: list[Result] | Status) -> None:
        """Call ``done``, once; what it raises is logged."""
        if self.settled:
            return
        self.settled = True
        try:
            self.done(reply)
        except Exception:
            logger.exception("results could not be handed over")

    def take(self, position: int, result: Result) -> None:
        """Fill in a result; the last one settles the question."""
        self.results[position] = result
        self.missing -= 1
        if not self.missing:
            self.settle(self.results)


class Batcher(Generic[Row, Result]):
    """Computes rows of waiting questions together, at most ``max_batch`` at once, on a thread of its own."""

    def __init__(
        self,
        name: str,
        max_batch: int,
        compute: Callable[[Sequence[Row]], Sequence[Result]],
        length: Callable[[Row], int],
        failed: Result,
    ) -> None:
        """Start the thread.

        Args:
            name: Of the member, or of what else is asked, for messages.
            max_batch: The most rows that are computed at once.
            compute: Turns rows into results, in their order.
            length: Counts the tokens of a row, or what grows with them.
            failed: The result of a row that cannot be computed.
        """
        self._name, self._max_batch = name, max_batch
        self._compute, self._length, self._failed = compute, length, failed
        self._inbox: deque[Job[Row, Result]] = deque()
        self._wake = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="quorum-encoder", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Row, Result]) -> None:
        """Queue a question for the next batch."""
        with self._wake:
            self._inbox.append(job)
            self._wake.notify()

    def close(self) -> None:
        """End after the batch that is being computed; questions that wait are dropped."""
        with self._wake:
            self._running = False
            self._inbox.clear()
            self._wake.notify()
        # A network that hangs must not keep the server from stopping; the thread dies with the process.
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        last = 0
        while jobs := self._collect(last):
            last = len(jobs)
            try:
                self._answer(jobs)
            except Exception:
                logger.exception("%s: a batch failed", self._name)
            if self._running:
                for job in jobs:
                    job.settle(Status.ERROR)

    def _collect(self, last: int) -> list[Job[Row, Result]]:
        """Questions of about :data:`POOL` batches; empty at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or not self._running)
            if last > 1 or len(self._inbox) > 1:
                self._wake.wait_for(
                    lambda: len(self._inbox) >= self._max_batch or not self._running, _WINDOW_S
                )
            jobs: list[Job[Row, Result]] = []
            rows = 0
            while self._running and self._inbox and rows < POOL * self._max_batch:
                jobs.append(self._inbox.popleft())
                rows += len(jobs[-1].rows)
            return jobs

    def _answer(self, jobs: Sequence[Job[Row, Result]]) -> None:
        """Compute the rows in batches of similar length, as padding costs as much as text."""
        waiting = [(job, position) for job in jobs for position in job.rows]
        waiting.sort(key=lambda place: self._length(place[0].rows[place[1]]))
        for start in range(0, len(waiting), self._max_batch):
            self._compute_batch(waiting[start : start + self._max_batch])

    def _compute_batch(self, places: Sequence[tuple[Job[Row, Result], int]]) -> None:
        """Compute rows of questions that are still waited for.

        Where that fails the halves are computed, so that only the row at fault is an ERROR.
        """
        for job, _ in places:
            if job.question.expired:
                job.settle(Status.TIMEOUT)
        places = [(job, position) for job, position in places if not job.settled]
        if not places or not self._running:
            return
        try:
            results = self._compute([job.rows[position] for job, position in places])
        except Exception:
            logger.exception("%s: %d rows could not be computed", self._name, len(places))
            if len(places) > 1:
                half = len(places) // 2
                self._compute_batch(places[:half])
                self._compute_batch(places[half:])
                return
            results = [self._failed]
        if self._running:
            for (job, position), result in zip(places, results, strict=True):
                job.take(position, result)
