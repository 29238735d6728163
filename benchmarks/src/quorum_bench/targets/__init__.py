# SPDX-License-Identifier: Apache-2.0
"""What can be measured: something that answers requests."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quorum_bench.workload import Workload


@dataclass(frozen=True, slots=True)
class CallerSpec:
    """How a generator process makes its caller: plain data, so that it can be sent there.

    Attributes:
        factory: ``"package.module:name"``; called with the settings it returns a :class:`Caller`.
        settings: Keyword arguments that JSON can hold.
    """

    factory: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Caller(Protocol):
    """Sends requests from inside a generator; made and used in its event loop."""

    async def open(self) -> None:
        """Connect, and be answered once: a failure here ends the run."""

    def call(self, number: int) -> Awaitable[Any]:
        """Send request ``number`` of the workload, modulo its size; the raw answer.

        Raises:
            Exception: It failed; :meth:`status_of` says how.
        """

    def check(self, number: int, answer: Any) -> None:
        """Make sure that this is a whole answer to that request.

        Called for every answer after its time was noted, so it should look at little.

        Raises:
            ValueError: It is not.
        """

    def status_of(self, error: BaseException) -> int:
        """A status above 0 for what :meth:`call` raised, a gRPC code or the nearest one."""

    async def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Cumulative times of one step of a server.

    Attributes:
        count: Requests it has answered.
        queue_ns: Their time in its queue.
        compute_ns: Their time of being worked on, tensors in and out included.
    """

    count: int
    queue_ns: int
    compute_ns: int


class Target(Protocol):
    """A server, or several processes that answer together; made for a workload, used in a ``with`` block.

    Attributes:
        name: In tables and plots.
        members: Names of the LLMs it asks, in order.
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
        """How it is asked."""

    def pids(self) -> Sequence[int]:
        """Processes whose CPU time and memory, with all their descendants', count as the target's."""

    def steps(self) -> Mapping[str, StepTimes]:
        """Its own statistics by step, cumulative; empty when it keeps none."""
