# SPDX-License-Identifier: Apache-2.0
"""Check settings and build calls, for both clients; the state that the calls of a client share."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from quorum_client import _recommend, _wire
from quorum_client._attempts import Attempts, Retries, RetryRule
from quorum_client._call import Call, Metadata, Result
from quorum_client._headers import metadata_of, with_key
from quorum_client._hedging import Hedge, Hedges
from quorum_client._limits import Concurrency
from quorum_client._results import Extraction, Recommendation, RecommendItem
from quorum_client._room import OnWait, Room, check_away
from quorum_client._routing import (
    EXTRACTING,
    RECOMMENDING,
    SERVED,
    Channels,
    Share,
    check_share,
    extracting,
    lazy_of,
    takes_canary,
)
from quorum_client._servers import Server, Servers, addresses
from quorum_client._tls import Tls
from quorum_client._tracing import Tracer
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    InvalidRequest,
    RequestError,
    Unavailable,
)
from quorum_contract import BULK, INTERACTIVE, STABLE, Priority
from quorum_contract.fields import join_fields
from quorum_contract.key import USER_AGENT

_READY_TIMEOUT_S = 5.0
_LOOK_S = 2.0
CANCEL_S = 1.0
"""How long a cancellation may take to reach the server; a client that is closed waits no longer for it."""


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""Stands for *as the client is configured*; ``None`` would read as *no deadline*, and every call has one."""


class Connection:
    """Settings of one client, and the state that its calls share."""

    def __init__(
        self,
        url: str | Sequence[str],
        channel: str = STABLE,
        timeout_s: float = 30.0,
        tls: bool | Tls = False,
        headers: Mapping[str, str] | None = None,
        retry: RetryRule | None = None,
        canary_share: Share | None = None,
        key: str | None = None,
        hedge_s: Hedge | None = None,
        hedge_share: float = 0.05,
        traces: bool = False,
    ) -> None:
        """Check everything that can be checked without the network.

        Raises:
            InvalidRequest: A setting cannot work.
        """
        self.servers = Servers(addresses(url))
        self.channel = _wire.check_channel(channel)
        self.canary_share = check_share(canary_share)
        if self.canary_share is not None and channel != STABLE:
            raise InvalidRequest(
                f"canary_share: {canary_share!r} with channel {channel!r}; a share goes with {STABLE!r}"
            )
        self._served: dict[Channels, float] = {}
        self._retries = Retries(retry or RetryRule())
        self._hedges = Hedges(hedge_s, hedge_share, len(self.servers.all))
        self.timeout_s = _wire.check_timeout(timeout_s)
        self.tracer = Tracer() if traces else None
        self.metadata = metadata_of(with_key(headers or {}, key))
        settings = Tls() if tls is True else tls
        self.credentials = settings.credentials() if settings else None
        # Keepalive makes gRPC set TCP_USER_TIMEOUT, so a dead peer is noticed after 20 s; the pings
        # themselves stay rarer than the five minutes below which servers count them as abuse.
        self.options: list[tuple[str, Any]] = [
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.keepalive_time_ms", 360_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # Without it gRPC waits a second before it dials again, and all attempts are over by then.
            ("grpc.initial_reconnect_backoff_ms", 100),
            # A server that is restarted is back within seconds.
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # By its name the shortest pause, but also the longest time that one attempt to connect may take:
            # half of a call's, so that a listener that never answers is unreachable, not a slow server.
            ("grpc.min_reconnect_backoff_ms", min(5_000, int(self.timeout_s * 500))),
            # gRPC sends again by itself what never reached the server, as when an old connection is closed in
            # order; that is not asking twice, so it is on without retries too.
            ("grpc.enable_retries", 1),
        ]

    def call(
        self,
        text: str | Mapping[str, str],
        attributes: Sequence[str],
        category: str,
        timeout_s: float | Unset,
        channel: str | None,
        request_id: str | None,
        members_timeout_s: float | None = None,
        product_id: str | None = None,
        priority: Priority = INTERACTIVE,
        lazy: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Call[Extraction]:
        """Build one request for attributes.

        Raises:
            InvalidRequest: The arguments break the contract.
        """
        text = join_fields(text) if isinstance(text, Mapping) else text
        timeout = self._timeout(timeout_s)
        routed = channel is None and self.canary_share is not None
        channels = extracting(lazy)
        name = self._named(channel, lazy)
        if routed:
            name = self._route(channels, text, product_id)
        ident = uuid.uuid4().hex if request_id is None else request_id
        asked = tuple(attributes)
        message = _wire.request(
            text,
            attributes,
            category,
            channel=name,
            request_id=ident,
            timeout_us=_wire.server_timeout_us(timeout, members_timeout_s),
            priority=priority,
        )

        def read(response: Any, call: Call[Extraction], latency_s: float) -> Extraction:
            ident, answered, instead_of = call.request_id, call.channel, call.fallback_from
            return _wire.extraction(response, asked, ident, latency_s, answered, instead_of)

        return Call(
            message,
            read,
            channels,
            name,
            timeout,
            ident,
            self._metadata(headers),
            members_timeout_s,
            routed,
            priority=priority,
        )

    def recommend_call(
        self,
        item: RecommendItem,
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        request_id: str | None = None,
        priority: Priority = INTERACTIVE,
        headers: Mapping[str, str] | None = None,
    ) -> Call[Recommendation]:
        """Build one request for keyphrases.

        Raises:
            InvalidRequest: The arguments break the contract.
        """
        timeout = self._timeout(timeout_s)
        routed = channel is None and self.canary_share is not None
        name = RECOMMENDING.stable if channel is None else channel
        if routed:
            name = self._route(RECOMMENDING, item.text, item.item_id)
        ident = uuid.uuid4().hex if request_id is None else request_id
        message = _recommend.request(
            item,
            channel=name,
            request_id=ident,
            timeout_us=_wire.server_timeout_us(timeout),
            priority=priority,
        )
        return Call(
            message,
            _read_recommendation,
            RECOMMENDING,
            name,
            timeout,
            ident,
            self._metadata(headers),
            routed=routed,
            priority=priority,
        )

    def _metadata(self, headers: Mapping[str, str] | None) -> Metadata:
        """The headers of the client, and those of one call in the place of its own of the same name."""
        if not headers:
            return self.metadata
        return tuple((dict(self.metadata) | dict(metadata_of(headers))).items())

    def _named(self, channel: str | None, lazy: bool) -> str:
        """The ensemble that a call, or else the client, names; its lazy namesake for a lazy call."""
        if not lazy:
            return self.channel if channel is None else channel
        return lazy_of(self.channel, channel)

    def _timeout(self, timeout_s: float | Unset) -> float:
        return self.timeout_s if isinstance(timeout_s, Unset) else _wire.check_timeout(timeout_s)

    def _route(self, channels: Channels, text: str, product_id: str | None) -> str:
        share = self._served.get(channels, 0.0) if self.canary_share == SERVED else self.canary_share
        product = _wire.check_product(text if product_id is None else product_id)
        return channels.canary if takes_canary(product, float(share or 0.0)) else channels.stable

    def first_look(
        self, timeout_s: float | Unset, channel: str | None, channels: Channels = EXTRACTING
    ) -> Call[Any] | None:
        """Build a call that fetches the served share before the first product is routed; asks no LLM.

        It may take half of the product's time.
        """
        if self.canary_share != SERVED or channels in self._served or channel is not None:
            return None
        look_s = min(self._timeout(timeout_s) / 2, _LOOK_S)
        look: Call[Any]
        if channels == RECOMMENDING:
            look = self.recommend_call(RecommendItem("?", k=1), look_s, channels.stable)
        else:
            look = self.call("?", ["share"], "", look_s, channels.stable, None, members_timeout_s=0)
        return replace(look, is_look=True, channels=channels)

    def room(
        self,
        concurrency: Concurrency,
        priority: Priority,
        away_s: float,
        on_wait: OnWait | None,
        timeout_s: float | Unset,
    ) -> Room:
        """The calls in flight of a run; of one that is bulk they wait for the server.

        Raises:
            InvalidRequest: A setting cannot be.
        """
        seconds = check_away(away_s)
        waits = _wire.check_priority(priority) == BULK and self._retries.rule.is_on
        return Room(concurrency, seconds if waits else None, on_wait, self._timeout(timeout_s))

    def share_unknown(self, channels: Channels = EXTRACTING) -> None:
        """Note that the first look failed: no product is routed until an answer reports the share."""
        self._served.setdefault(channels, 0.0)

    def attempts(self, call: Call[Result], spent_s: float = 0.0) -> Attempts[Result]:
        """A call on its way, of which so many seconds are spent."""
        trace = self.tracer.begin(call) if self.tracer and not call.is_look else None
        return Attempts(call, self.servers, self._retries, self._hedges, spent_s, trace)

    def ready_call(self, channel: str | None, timeout_s: float | Unset) -> tuple[str, float]:
        """Channel and deadline of a readiness question."""
        name = self.channel if channel is None else _wire.check_channel(channel)
        if isinstance(timeout_s, Unset):
            return name, min(self.timeout_s, _READY_TIMEOUT_S)
        return name, _wire.check_timeout(timeout_s)

    def result(self, attempts: Attempts[Result], server: Server, response: Any, sent: float) -> Result:
        """Read the response of a server to a call that was sent to it at that time, and the share in it.

        Raises:
            ProtocolError: The response breaks the contract.
        """
        result = attempts.answered(server, response, sent)
        self._served[attempts.call.channels] = _wire.canary_share(response)
        return result

    def ready_refusal(
        self, failure: Any, server: Server, channel: str, timeout_s: float
    ) -> RequestError | None:
        """The error of a readiness question that was refused; ``None`` for one that says *not ready*."""
        error = _wire.from_grpc(
            failure, url=server.url, channel=channel, timeout_s=timeout_s, request_id=None
        )
        error.__cause__ = failure
        return None if isinstance(error, Unavailable | DeadlineExceeded | ChannelNotFound) else error


def _read_recommendation(response: Any, call: Call[Recommendation], latency_s: float) -> Recommendation:
    return _recommend.recommendation(response, call.request_id, latency_s, call.channel, call.fallback_from)
