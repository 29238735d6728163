# SPDX-License-Identifier: Apache-2.0
"""An endpoint with its connection, and counts of what it answered."""

from __future__ import annotations

import logging
import time

from quorum.runtimes.base import Generated
from quorum.runtimes.remote.address import shown
from quorum.runtimes.remote.breaker import State
from quorum.runtimes.remote.endpoint import Ending, Endpoint
from quorum.runtimes.remote.exchange import Exchange, Outcome
from quorum.runtimes.remote.note import EndpointState, shortened

logger = logging.getLogger(__name__)

_COUNTED = {Ending.ANSWERED: "answered", Ending.OVERLOADED: "limited", Ending.FAILED: "failed"}


class Watched:
    """Counts of one endpoint, and log lines when its breaker opens and closes."""

    def __init__(self, member: str, endpoint: Endpoint, exchange: Exchange) -> None:
        self._member, self.endpoint, self.exchange = member, endpoint, exchange
        self._state, self._since = State.CLOSED, time.time()
        self._problem = ""
        self._counts = dict.fromkeys(("requests", "answered", "limited", "failed"), 0)
        self._tokens = dict.fromkeys(("prompt_tokens", "cached_tokens", "answer_tokens"), 0)

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return self._counts["answered"]

    def sent(self) -> None:
        """Count a request."""
        self._counts["requests"] += 1

    def ended(self, ending: Ending, outcome: Outcome | None) -> None:
        """Count its end, and what came of it; None: it was not waited for."""
        if (name := _COUNTED.get(ending)) is not None:
            self._counts[name] += 1
        if outcome is not None:
            self._count(outcome)
        elif ending is Ending.FAILED:
            self._problem = "it did not answer in time"
        self._follow()

    def state(self, now: float) -> EndpointState:
        """For other processes."""
        endpoint, dialect = self.endpoint, self.exchange.dialect
        self._follow()
        latencies = endpoint.latencies
        return EndpointState(
            shown(endpoint.url),
            endpoint.state.value,
            self._since,
            endpoint.breaker.opened,
            shortened(self._problem),
            round(endpoint.held_s(now), 1),
            endpoint.concurrency.in_flight,
            endpoint.concurrency.limit,
            form=dialect.form,
            scores=dialect.offers_scores,
            p50_s=latencies.share(0.5),
            p95_s=latencies.share(0.95),
            **self._counts,
            **self._tokens,
        )

    def _count(self, outcome: Outcome) -> None:
        if outcome.problem:
            self._problem = outcome.problem
        if isinstance(outcome.reply, Generated) and outcome.reply.usage is not None:
            for key, count in outcome.reply.usage._asdict().items():
                self._tokens[key] += count

    def _follow(self) -> None:
        state = self.endpoint.state
        if state is self._state:
            return
        was_closed, self._state, self._since = self._state is State.CLOSED, state, time.time()
        where = shown(self.endpoint.url)
        if state is State.CLOSED:
            logger.warning("member %s: %s answers again", self._member, where)
        elif was_closed:
            logger.error(
                "member %s: %s is not asked for a while, most requests fail; the last: %s",
                self._member, where, self._problem,
            )  # fmt: skip
