# SPDX-License-Identifier: Apache-2.0
"""Ask requests of pairs as bulk, several at a time; what the server fails to answer is asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quorum.bulk.callbacks import Note
from quorum.bulk.estimate import Sample
from quorum.bulk.judging.journal import Cell, Decider
from quorum.bulk.judging.labels import Labels
from quorum.bulk.judging.requests import Asked, item_of
from quorum.bulk.outcomes import GIVE_UP_AFTER
from quorum.bulk.spent import BudgetWatch, Totals
from quorum.bulk.waits import WaitNotes, check_ready, found_no_server
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import (
    AWAY_S,
    AsyncClient,
    InvalidRequest,
    Spent,
)
from quorum_contract import STABLE
from quorum_contract.errors import QuorumError

ROUNDS = 3
"""Times that a pair is asked in one run, where the server fails to answer: asking again does no harm."""


@dataclass(slots=True, kw_only=True)
class Asking:
    """Asks pairs, and hands on their outcomes as they come.

    Attributes:
        client: Of the channel that is asked.
        labels: Make outcomes of answers.
        decided_by: Called with the weights of each answer, before ``keep``; may refuse them.
        keep: Called with the outcomes of the pairs of one request.
        note: Takes remarks: why the run waits.
        concurrency: Requests in flight.
        away_s: How long it waits for a server that is away, in seconds.
        silent: How many requests in a row found no server.
        latencies: Of the answers, in seconds.
        last_error: Why pairs failed.
        spent: What each answer took.
        budgets: Notes when a member's budget is spent.
    """

    client: AsyncClient
    labels: Labels
    decided_by: Callable[[Decider], None]
    keep: Callable[[list[Cell]], None]
    note: Note
    concurrency: int
    away_s: float = AWAY_S
    silent: int = 0
    latencies: list[float] = field(default_factory=list)
    last_error: str = ""
    spent: list[Spent] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    budgets: BudgetWatch = field(init=False)

    def __post_init__(self) -> None:
        self.budgets = BudgetWatch(self.note)

    @property
    def sample(self) -> Sample:
        """What the answers so far took; it grows."""
        return Sample(self.latencies, self.spent)

    def has_given_up(self) -> bool:
        """Whether so many requests in a row found no server that nothing more is asked."""
        return self.silent >= GIVE_UP_AFTER

    async def ask_again(self, failed: list[Asked]) -> list[Asked]:
        """Ask what failed once :data:`ROUNDS` - 1 times more; what is left."""
        for _ in range(ROUNDS - 1):
            if not failed or self.has_given_up():
                break
            failed = await self.ask(failed)
        return failed

    async def ask(self, requests: Sequence[Asked]) -> list[Asked]:
        """Ask requests and keep their outcomes; returns those without an answer.

        Where one of several pairs is refused, all are asked one by one, so that one costs no other its label.

        Raises:
            JudgeError: The server serves another question or other members, or other weights decide now.
        """
        failed, refused = await self._ask(requests)
        alone, _ = await self._ask(refused)
        return failed + alone

    async def _ask(self, requests: Sequence[Asked]) -> tuple[list[Asked], list[Asked]]:
        """What has no answer, and the pairs of refused requests, each as a request of its own."""
        failed: list[Asked] = []
        refused: list[Asked] = []
        if self.has_given_up() or not requests:
            return list(requests), []
        results = self.client.extract_many(
            map(item_of, requests),
            concurrency=self.concurrency,
            errors="return",
            away_s=self.away_s,
            on_wait=WaitNotes(self.note, self.away_s),
        )
        at = 0
        async for result in results:
            asked, at = requests[at], at + 1
            if isinstance(result, InvalidRequest):
                if len(asked) > 1:
                    refused += [(pair,) for pair in asked]
                else:
                    # No member will ever be asked it.
                    self.keep([Cell(asked[0].line, reason=f"INVALID_REQUEST: {result}")])
            elif isinstance(result, QuorumError):
                failed.append(asked)
                self.last_error = str(result)
            else:
                self.latencies.append(result.latency_s)
                if result.spent:
                    self.spent.append(result.spent)
                self.totals.add(result)
                self.budgets.add(at, result)
                version = result.weights_version
                self.decided_by(self.labels.decider(version))
                answered = zip(asked, result.answers, strict=True)
                self.keep([self.labels.cell(pair, answer, version) for pair, answer in answered])
            self.silent = self.silent + 1 if found_no_server(result) else 0
            if self.has_given_up():
                return [*failed, *requests[at:]], refused
        return failed, refused


def judging_client(
    deployment: Deployment, url: str | None, timeout_s: float, channel: str = STABLE
) -> AsyncClient:
    """A client of the channel; raises Unavailable where that does not answer."""
    target = url or endpoint_of(deployment).grpc_url
    check_ready(target, channel)
    return AsyncClient(target, channel=channel, timeout_s=timeout_s, key=client_key())
