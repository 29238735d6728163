# SPDX-License-Identifier: Apache-2.0
"""Decide where a call is sent, whether it is sent again, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from quorum_client import _wire
from quorum_client._call import Call, Metadata, Result
from quorum_client._hedging import Hedges
from quorum_client._routing import RECOMMENDING
from quorum_client._servers import Server, Servers
from quorum_client._tracing import CallTrace
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuorumError,
    RequestError,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from quorum_contract import BULK

# Three attempts in all, and no retry while more than half of the calls fail, so that retries never keep a
# server down: a failure costs a token, a success returns one. gRPC can be configured to do the same, but it
# cannot distinguish a refusal from a connection that broke under a call whose members may have been asked.
_PAUSES_S = (0.1, 0.3)
_LONGEST_PAUSE_S = 1.0
_JITTER = 0.2
_TOKENS = 100.0
_RESENDS = 2
# A proxy or Triton itself refused the call; what any other status means for the members is not known.
_NOT_ASKED = ("PERMISSION_DENIED", "UNIMPLEMENTED", "UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Which failed calls a client sends again.

    Attributes:
        is_on: Those of which no member was asked, up to twice, and on each other server once before.
        wait_for_ready: Those that found no server that is ready: until the deadline.
        resend: Those under which the connection broke, and on another server those that failed, up to twice:
            members may be asked twice.
    """

    is_on: bool = True
    wait_for_ready: bool = False
    resend: bool = False

    def __post_init__(self) -> None:
        """Refuse retries of a client without any."""
        for name in ("wait_for_ready", "resend"):
            if getattr(self, name) and not self.is_on:
                raise InvalidRequest(f"{name}: True with retries=False; give one of the two")


class Retries:
    """The retry rule of a client, and the tokens that its calls share."""

    def __init__(self, rule: RetryRule) -> None:
        self.rule = rule
        self._tokens = _TOKENS

    def succeeded(self) -> None:
        """Return a token."""
        self._tokens = min(_TOKENS, self._tokens + 1)

    def spend(self) -> bool:
        """Take a token for a failure; whether enough are left for a retry."""
        self._tokens = max(0.0, self._tokens - 1)
        return self._tokens > _TOKENS / 2


class Attempts(Generic[Result]):
    """One call on its way: the servers that it is sent to, one after another, within its deadline.

    Attributes:
        call: The call, on the stable channel once it fell back.
        asking: The servers that work on it now.
    """

    def __init__(
        self,
        call: Call[Result],
        servers: Servers,
        retries: Retries,
        hedges: Hedges,
        spent_s: float = 0.0,
        trace: CallTrace | None = None,
    ) -> None:
        self.call = call
        self.asking: list[Server] = []
        self._trace = trace
        self._servers, self._retries, self._hedges = servers, retries, hedges
        self._start = time.perf_counter() - spent_s
        self._is_fresh = spent_s == 0
        self._tried: set[Server] = set()
        self._doubted: list[Server] = []
        self._lost: list[RequestError] = []
        self._full: Overloaded | None = None
        self._rounds = self._broken = 0

    @property
    def spent_s(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self._start

    def begin(self) -> Server:
        """The server to send the call to."""
        server = self._servers.choose(self._tried)
        self.asking.append(server)
        if self._trace:
            self._trace.sent(server, self.call.channel)
        return server

    def metadata(self, server: Server) -> Metadata:
        """The headers for a server that the call is sent to."""
        return self._trace.metadata(server, self.call) if self._trace else self.call.metadata

    def left_s(self) -> float:
        """Seconds until the deadline; sets them in the message for the server too."""
        if self._is_fresh:
            self._is_fresh = False
            return self.call.timeout_s
        left_s = max(0.001, self.call.timeout_s - self.spent_s)
        members_s = self.call.members_timeout_s
        _wire.set_timeout(self.call.message, _wire.server_timeout_us(left_s, members_s))
        return left_s

    def hedge_delay_s(self) -> float | None:
        """Seconds after which a second server is asked; ``None``: none is."""
        call = self.call
        if call.is_look or call.priority == BULK:
            return None
        return self._hedges.delay_s()

    def hedge(self) -> Server | None:
        """A second server to send the call to; ``None`` where there is none, or no budget for it."""
        server = self._servers.spare(self.asking)
        if server is None:
            return None
        if not self._hedges.take():
            self._servers.ended(server)
            return None
        self.asking.append(server)
        if self._trace:
            self._trace.sent(server, self.call.channel, hedges=True)
        return server

    def end(self, server: Server) -> None:
        """Note that a server does not work on the call any more."""
        if server in self.asking:
            self.asking.remove(server)
            self._servers.ended(server)
            if self._trace:
                self._trace.ended(server)

    def failed(self, error: BaseException) -> None:
        """Note why the call has no result."""
        if self._trace:
            self._trace.failed(error)

    def end_all(self, result: Result | None = None) -> None:
        """Note that none works on it any more, and its result."""
        for server in list(self.asking):
            self.end(server)
        if self._trace:
            self._trace.end(result)

    def answered(self, server: Server, response: Any, sent: float) -> Result:
        """Read the answer of a server to which the call was sent at that time.

        Raises:
            ProtocolError: The response breaks the contract.
        """
        try:
            result = self.call.read(response, self.call, self.spent_s)
        except ProtocolError:
            self._servers.failed(server, self.call.channel)
            raise
        if self._trace:
            self._trace.answered(server)
        self._servers.answered(server)
        self._hedges.answered(time.perf_counter() - sent)
        # What they refused as invalid is not: it is they who are wrong.
        for doubted in self._doubted:
            self._servers.failed(doubted, self.call.channel)
        self._retries.succeeded()
        return result

    def lost(self, server: Server, failure: Any) -> None:
        """Note that the call failed on a server, by what gRPC raised, and whether the server is away."""
        call = self.call
        error = _wire.from_grpc(
            failure,
            url=server.url,
            channel=call.channel,
            timeout_s=call.timeout_s,
            request_id=call.request_id,
        )
        error.__cause__ = failure
        if self._trace:
            self._trace.lost(server, error)
        self.end(server)
        self._tried.add(server)
        self._lost.append(error)
        if isinstance(error, InvalidRequest):
            # One that took requests before knows a wrong one.
            self._doubted = [] if server.is_proven else [*self._doubted, server]
        elif self._lacks_channel(error):
            # Where another has it, this one is behind, or not ready yet.
            self._doubted.append(server)
        elif self._is_servers(error):
            # One that fails has few calls in flight, and would get all the others.
            self._servers.failed(server, call.channel)
        elif isinstance(error, DeadlineExceeded):
            self._servers.late(server, call.channel)
        elif isinstance(error, Overloaded):
            self._full = error
            self._servers.full(server)
        else:
            self._servers.answered(server)

    def _is_servers(self, error: RequestError) -> bool:
        """Whether a failure tells that the server is away, or fails."""
        if isinstance(error, ServerError):
            # A canary that fails is replaced by the stable channel, of the same server too.
            return not self._is_on_canary
        return isinstance(error, Unavailable | Unauthenticated) and not isinstance(error, Overloaded)

    def _lacks_channel(self, error: RequestError) -> bool:
        """Whether the server has no such channel; where it is the canary, the stable one answers instead."""
        return isinstance(error, ChannelNotFound) and not self._is_on_canary

    @property
    def _is_on_canary(self) -> bool:
        return self.call.routed and self.call.channel == self.call.channels.canary

    def pause_s(self) -> float:
        """Seconds until the call is sent again, after it failed on each server that was asked.

        Raises:
            RequestError: It is not sent again, and has failed.
        """
        lost, self._lost = self._lost, []
        final = [error for error in lost if self._is_final(error)]
        # Of a hedge's two failures the one that says that members may have been asked.
        error = max(final or lost, key=lambda error: isinstance(error, Disconnected))
        pause_s = None if final else self._round_pause_s(lost)
        if pause_s is not None and self.spent_s + pause_s < self.call.timeout_s:
            if self._trace and pause_s:
                self._trace.note("waits before it is sent again", pause_s=pause_s)
            return pause_s
        stable = self._fallback(error)
        if stable is None:
            # A product of a run waits for a full server, rather than be wrong by one that is doubted.
            if self._full and self._doubted and self.call.priority == BULK:
                raise self._full
            raise error
        if self._trace:
            self._trace.note("the stable channel is asked instead", fallback_from=self.call.channel)
        self.call, self._rounds = stable, 0
        self._tried.clear()
        self._doubted = []
        return 0.0

    def _is_final(self, error: RequestError) -> bool:
        """Whether a call that failed so must not be sent again."""
        rule = self._retries.rule
        if not rule.is_on or self.call.is_look:
            return True
        if not isinstance(error, Unavailable) and not self._servers.left(self._tried):
            return True
        if isinstance(error, InvalidRequest):
            # A request that is wrong is so everywhere, unless this server has taken none yet.
            return not self._doubted
        if self._lacks_channel(error):
            return False
        if not isinstance(error, Unavailable | Unauthenticated | ServerError):
            return True
        if not isinstance(error, Disconnected | ServerError) or getattr(error, "status", "") in _NOT_ASKED:
            return False
        self._broken += 1
        # A question that kills its server must not kill it for ever.
        return not rule.resend or self._broken > _RESENDS

    def _round_pause_s(self, lost: Sequence[RequestError]) -> float | None:
        """Seconds until it is sent to a server that was not tried, or to all again; ``None``: it is not."""
        # A refusal of one server says nothing of the others: only where all refuse are retries a burden.
        if self._servers.left(self._tried, has_room=True):
            return 0.0
        is_full = all(isinstance(error, Overloaded) for error in lost)
        tokens = [self._retries.spend() for _ in lost]
        waits = self._retries.rule.wait_for_ready and not is_full
        if not (waits or all(tokens)):
            return None
        if self._servers.left(self._tried):
            return 0.0
        self._tried.clear()
        self._rounds += 1
        # A run waits for room by itself.
        if self.call.priority == BULK and is_full:
            return None
        if self._rounds <= len(_PAUSES_S):
            pause_s = _PAUSES_S[self._rounds - 1]
        elif waits:
            pause_s = _LONGEST_PAUSE_S
        else:
            return None
        return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _fallback(self, error: QuorumError) -> Call[Result] | None:
        """Redirect the call to the stable channel if the canary that it was routed to cannot answer."""
        call = self.call
        stable, canary = call.channels
        if not self._is_on_canary or self.spent_s >= call.timeout_s:
            return None
        # Behind a full gate, or without a server, the stable channel cannot answer either.
        if isinstance(error, Overloaded | Unreachable) or not isinstance(
            error, ChannelNotFound | Unavailable | ServerError
        ):
            return None
        call.message.model_name = stable
        return replace(call, channel=stable, fallback_from=canary)

    def cancel_message(self) -> Any:
        """Build the request that asks a server to stop working on the call; ``None`` if it asks no LLM."""
        call = self.call
        if call.is_look or call.channels == RECOMMENDING:
            return None
        return _wire.cancel_request(call.channel, call.request_id)
