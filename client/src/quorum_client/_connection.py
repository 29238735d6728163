# SPDX-License-Identifier: Apache-2.0
"""Check settings, build calls, and decide retries and fall-back, for both clients."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc

from quorum_client import _recommend, _wire
from quorum_client._headers import metadata_of, with_key
from quorum_client._results import Extraction, Recommendation, RecommendItem
from quorum_client._room import check_away
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
from quorum_client.errors import (
    ChannelNotFound,
    Disconnected,
    InvalidRequest,
    Overloaded,
    QuorumError,
    ServerError,
    Unavailable,
    Unreachable,
)
from quorum_contract import BULK, INTERACTIVE, STABLE, Priority
from quorum_contract.fields import join_fields

Result = TypeVar("Result")

_READY_TIMEOUT_S = 5.0

# Three attempts in all, and no retry while more than half of the calls fail, so that retries never keep a
# server down: a failure costs a token, a success returns one. gRPC can be configured to do the same, but it
# cannot distinguish a refusal from a connection that broke under a call whose members may have been asked.
_PAUSES_S = (0.1, 0.3)
_JITTER = 0.2
_LOOK_S = 2.0
CANCEL_S = 1.0
"""How long a cancellation may take to reach the server; a client that is closed waits no longer for it."""
_TOKENS = 100.0


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""Stands for *as the client is configured*; ``None`` would read as *no deadline*, and every call has one."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, as PEM files.

    Attributes:
        ca: Authorities to trust instead of the system's.
        certificate: This client's own certificate chain, for mutual TLS.
        key: The key of ``certificate``.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> Any:
        """Read the files into gRPC credentials.

        Raises:
            InvalidRequest: A file cannot be read, or only one of ``certificate`` and ``key`` is given.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("tls: give certificate and key together, or neither")
        try:
            ca, key, chain = (p.read_bytes() if p else None for p in (self.ca, self.key, self.certificate))
        except OSError as error:
            raise InvalidRequest(
                f"tls: cannot read {error.filename}: {error.strerror}; check the path"
            ) from error
        return grpc.ssl_channel_credentials(ca, key, chain)


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[Result]):
    """One request, ready to send.

    Attributes:
        read: Turns the response, this call and its latency in seconds into the result.
        channels: Of its kind.
    """

    message: Any
    read: Callable[[Any, Call[Result], float], Result]
    channels: Channels
    channel: str
    timeout_s: float
    request_id: str
    members_timeout_s: float | None = None
    routed: bool = False
    fallback_from: str | None = None
    is_look: bool = False
    priority: Priority = INTERACTIVE


class Connection:
    """Settings of one client, and the state that its calls share: the served share and the retry tokens."""

    def __init__(
        self,
        url: str,
        channel: str,
        timeout_s: float,
        tls: bool | Tls,
        headers: Mapping[str, str] | None,
        retries: bool,
        canary_share: Share | None,
        key: str | None = None,
    ) -> None:
        """Check everything that can be checked without the network.

        Raises:
            InvalidRequest: A setting cannot work.
        """
        if not isinstance(url, str) or "://" in url or not url.strip():
            raise InvalidRequest(f"url: {url!r}; give host:port of the gRPC endpoint, without a scheme")
        self.url = url
        self.channel = _wire.check_channel(channel)
        self.canary_share = check_share(canary_share)
        if self.canary_share is not None and channel != STABLE:
            raise InvalidRequest(
                f"canary_share: {canary_share!r} with channel {channel!r}; a share goes with {STABLE!r}"
            )
        self._served: dict[Channels, float] = {}
        self._retries = retries
        self._tokens = _TOKENS
        self.timeout_s = _wire.check_timeout(timeout_s)
        self.metadata = metadata_of(with_key(headers or {}, key))
        settings = Tls() if tls is True else tls
        self.credentials = settings.credentials() if settings else None
        # Keepalive makes gRPC set TCP_USER_TIMEOUT, so a dead peer is noticed after 20 s; the pings
        # themselves stay rarer than the five minutes below which servers count them as abuse.
        self.options: list[tuple[str, Any]] = [
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
            message, read, channels, name, timeout, ident, members_timeout_s, routed, priority=priority
        )

    def recommend_call(
        self,
        item: RecommendItem,
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        request_id: str | None = None,
        priority: Priority = INTERACTIVE,
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
            message, _read_recommendation, RECOMMENDING, name, timeout, ident, None, routed, priority=priority
        )

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

    def cancel_message(self, call: Call[Any]) -> Any:
        """Build the request that asks the server to stop working on a call; ``None`` if it asks no LLM."""
        if call.is_look or call.channels == RECOMMENDING:
            return None
        return _wire.cancel_request(call.channel, call.request_id)

    def away_s(self, priority: Priority, away_s: float) -> float | None:
        """How long a run of that priority waits for a server that is away; ``None``: it waits for nothing.

        Raises:
            InvalidRequest: There is no such priority, or the time is none.
        """
        seconds = check_away(away_s)
        return seconds if _wire.check_priority(priority) == BULK and self._retries else None

    def share_unknown(self, channels: Channels = EXTRACTING) -> None:
        """Note that the first look failed: no product is routed until an answer reports the share."""
        self._served.setdefault(channels, 0.0)

    def retry_pause(self, call: Call[Any], error: QuorumError, sent: int, spent_s: float) -> float | None:
        """Seconds to wait before a failed call is sent again; ``None``: do not retry.

        Args:
            call: The call.
            error: Its error.
            sent: Number of attempts so far.
            spent_s: Seconds since it was first sent.
        """
        safe = isinstance(error, Unavailable) and not isinstance(error, Disconnected)
        if not (self._retries and safe) or call.is_look:
            return None
        # A run waits for room by itself.
        if call.priority == BULK and isinstance(error, Overloaded):
            return None
        self._tokens = max(0.0, self._tokens - 1)
        if sent > len(_PAUSES_S) or self._tokens <= _TOKENS / 2:
            return None
        pause = _PAUSES_S[sent - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)
        return pause if spent_s + pause < call.timeout_s else None

    def left(self, call: Call[Any], spent_s: float) -> float:
        """Seconds until the deadline; sets them in the message for the server too."""
        left = max(0.001, call.timeout_s - spent_s)
        _wire.set_timeout(call.message, _wire.server_timeout_us(left, call.members_timeout_s))
        return left

    def fallback(self, call: Call[Result], error: QuorumError, spent_s: float) -> Call[Result] | None:
        """Redirect a call to the stable channel if the canary that it was routed to cannot answer."""
        stable, canary = call.channels
        if not call.routed or call.channel != canary or spent_s >= call.timeout_s:
            return None
        # Behind a full gate, or without a server, the stable channel cannot answer either.
        if isinstance(error, Overloaded | Unreachable) or not isinstance(
            error, ChannelNotFound | Unavailable | ServerError
        ):
            return None
        call.message.model_name = stable
        return replace(call, channel=stable, fallback_from=canary)

    def ready_call(self, channel: str | None) -> tuple[str, float]:
        """Channel and deadline of a readiness question."""
        name = self.channel if channel is None else _wire.check_channel(channel)
        return name, min(self.timeout_s, _READY_TIMEOUT_S)

    def result(self, response: Any, call: Call[Result], latency_s: float) -> Result:
        """Read the response to ``call`` and the share in it.

        Raises:
            ProtocolError: The response breaks the contract.
        """
        result = call.read(response, call, latency_s)
        self._served[call.channels] = _wire.canary_share(response)
        self._tokens = min(_TOKENS, self._tokens + 1)
        return result

    def error(self, error: Any, call: Call[Any]) -> QuorumError:
        """Map a failed call to the error to raise."""
        return _wire.from_grpc(
            error, url=self.url, channel=call.channel, timeout_s=call.timeout_s, request_id=call.request_id
        )

    def ready_error(self, error: Any, channel: str, timeout_s: float) -> QuorumError:
        """Map a failed readiness question to the error to raise."""
        return _wire.from_grpc(error, url=self.url, channel=channel, timeout_s=timeout_s, request_id=None)


def _read_recommendation(response: Any, call: Call[Recommendation], latency_s: float) -> Recommendation:
    return _recommend.recommendation(response, call.request_id, latency_s, call.channel, call.fallback_from)
