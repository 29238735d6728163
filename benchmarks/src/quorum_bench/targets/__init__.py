# SPDX-License-Identifier: Apache-2.0
"""Define what can be measured: a target, and the caller of a target."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quorum_bench.workload import Workload


@dataclass(frozen=True, slots=True)
class CallerSpec:
    """Recipe of a caller, as plain data for a generator process.

    Attributes:
        factory: ``"package.module:name"``; called with the settings it returns a :class:`Caller`.
        settings: Keyword arguments, as JSON allows.
    """

    factory: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Caller(Protocol):
    """Send requests from inside a generator; made and used in its event loop."""

    async def open(self) -> None:
        """Connect and get one answer: a failure here ends the run."""

    def call(self, number: int) -> Awaitable[Any]:
        """Send request ``number`` of the workload, modulo its size; return the raw answer.

        Raises:
            Exception: It failed; :meth:`status_of` says how.
        """

    def check(self, number: int, answer: Any) -> None:
        """Check that this is a whole answer to that request.

        Called for every answer after its time was taken, so it should be cheap.

        Raises:
            ValueError: It is not whole.
        """

    def status_of(self, error: BaseException) -> int:
        """Return a status above 0 for an error of :meth:`call`: a gRPC code or the nearest one."""

    async def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Cumulative times of one step of a server.

    Attributes:
        count: Requests answered.
        queue_ns: Their time in its queue.
        compute_ns: Their time at work, tensors in and out included.
    """

    count: int
    queue_ns: int
    compute_ns: int


class Target(Protocol):
    """A server, or several processes that answer together; made for a workload, used in a ``with`` block.

    Attributes:
        name: In tables and plots.
        members: Names of its LLMs, in order.
    """

    name: str
    members: Sequence[str]

    def start(self) -> None:
        """Start, and return when it answers.

        Raises:
            Exception: It does not start; the message holds its last words.
        """

    def stop(self) -> None:
        """Stop; leave nothing behind. Safe to call twice, and after a start that failed."""

    def caller(self, workload: Workload) -> CallerSpec:
        """Return its caller."""

    def pids(self) -> Sequence[int]:
        """Processes whose CPU time and memory, with all their descendants', count as the target's."""

    def steps(self) -> Mapping[str, StepTimes]:
        """Its own statistics by step, cumulative; empty if it keeps none."""
