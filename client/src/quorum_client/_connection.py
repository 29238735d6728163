# SPDX-License-Identifier: Apache-2.0
"""What both clients need to open a connection and to name a call: checked once, when the client is made."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import grpc

from quorum_client import _wire
from quorum_client._results import Extraction
from quorum_client.errors import InvalidRequest, QuorumError

_HEADER = re.compile(r"[0-9a-z_.-]+")
_READY_TIMEOUT_S = 5.0
_WINDOW = 4

# Three attempts in all. The throttle stops retrying while more than half of the calls fail, so that retries
# never keep a server down.
_RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 1},
}


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""Stands for *as the client was told*; ``None`` would read as *no deadline*, and every call has one."""


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
        """The credentials as gRPC wants them.

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


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to send."""

    message: Any
    attributes: tuple[str, ...]
    channel: str
    timeout_s: float
    request_id: str


class Connection:
    """Where to call, and how."""

    def __init__(
        self,
        url: str,
        channel: str,
        timeout_s: float,
        tls: bool | Tls,
        headers: Mapping[str, str] | None,
        retries: bool,
    ) -> None:
        """Check everything that can be checked without the network.

        Raises:
            InvalidRequest: A setting cannot work.
        """
        if not isinstance(url, str) or "://" in url or not url.strip():
            raise InvalidRequest(f"url: {url!r}; give host:port of the gRPC endpoint, without a scheme")
        self.url = url
        self.channel = _wire.check_channel(channel)
        self.timeout_s = _wire.check_timeout(timeout_s)
        self.metadata = _metadata(headers or {})
        settings = Tls() if tls is True else tls
        self.credentials = settings.credentials() if settings else None
        # Keepalive makes gRPC set TCP_USER_TIMEOUT, so a peer that is gone is noticed after 20 s; the pings
        # themselves stay rarer than the five minutes below which servers count them as abuse.
        self.options: list[tuple[str, Any]] = [
            ("grpc.keepalive_time_ms", 360_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # Without these gRPC waits a second before it dials again, and all attempts are over by then.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_retries", int(retries)),
        ]
        if retries:
            self.options.append(("grpc.service_config", json.dumps(_RETRY)))

    def call(
        self,
        text: str,
        attributes: Sequence[str],
        category: str,
        timeout_s: float | Unset,
        channel: str | None,
        request_id: str | None,
    ) -> Call:
        """Build one request.

        Raises:
            InvalidRequest: The arguments break the contract.
        """
        timeout = self.timeout_s if isinstance(timeout_s, Unset) else _wire.check_timeout(timeout_s)
        name = self.channel if channel is None else channel
        ident = uuid.uuid4().hex if request_id is None else request_id
        message = _wire.request(text, attributes, category, channel=name, request_id=ident, timeout_s=timeout)
        return Call(message, tuple(attributes), name, timeout, ident)

    def ready_call(self, channel: str | None) -> tuple[str, float]:
        """Channel and deadline of a readiness question."""
        name = self.channel if channel is None else _wire.check_channel(channel)
        return name, min(self.timeout_s, _READY_TIMEOUT_S)

    def error(self, error: Any, call: Call) -> QuorumError:
        """What a failed call raises."""
        return _wire.from_grpc(
            error, url=self.url, channel=call.channel, timeout_s=call.timeout_s, request_id=call.request_id
        )

    def ready_error(self, error: Any, channel: str, timeout_s: float) -> QuorumError:
        """What a failed readiness question raises."""
        return _wire.from_grpc(error, url=self.url, channel=channel, timeout_s=timeout_s, request_id=None)


def result(response: Any, call: Call, latency_s: float) -> Extraction:
    """Read the answer to ``call``."""
    return _wire.extraction(response, call.attributes, call.request_id, latency_s)


def window(concurrency: int) -> int:
    """How many items may be begun and not yet handed out: room for a slow one at the head.

    Raises:
        InvalidRequest: ``concurrency`` is not a number above 0.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(f"concurrency: {concurrency!r}; give a whole number above 0")
    return _WINDOW * concurrency


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name.lower()) or name.lower().endswith("-bin"):
            raise InvalidRequest(
                f"headers: {name!r} is not a header name; use letters, digits, '-', '_' and '.'"
            )
        if not value.isascii() or not value.isprintable():
            raise InvalidRequest(f"headers: the value of {name!r} is not printable ASCII; encode it")
    return tuple((name.lower(), value) for name, value in headers.items())
