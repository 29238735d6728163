# SPDX-License-Identifier: Apache-2.0
"""What the process of a gateway needs to know, in the form in which it is handed over."""

from __future__ import annotations

import msgspec

INFERENCE_KEY_VARIABLE = "QUORUM_INFERENCE_KEY"
"""Environment variable with the key of one caller, who may do everything."""
READY = "ready"
"""The line by which the process of a gateway says that it listens."""


FOLLOWED = ("attributes", "currency", "max_calls", "timeout_s", "max_timeout_s")
"""The settings that a running gateway takes over from its parent."""


class TlsFiles(msgspec.Struct, frozen=True):
    """Absolute paths of PEM files.

    Attributes:
        certificate: Of the gateway, with its chain.
        key: Its private key.
        client_ca: Authorities of callers' certificates; None: callers show none.
    """

    certificate: str
    key: str
    client_ca: str | None = None


class RequestLog(msgspec.Struct, frozen=True):
    """Where requests over HTTP are logged: absolute path, share in [0, 1], and whether with texts."""

    path: str
    share: float = 1.0
    texts: bool = False


class Traces(msgspec.Struct, frozen=True):
    """Where spans are sent: ``server.traces`` of the deployment, which explains the fields."""

    url: str
    service: str
    flush_s: float
    share: float


class Settings(msgspec.Struct, frozen=True):
    """Addresses and limits of one gateway; the key of the environment is no part of it.

    Attributes:
        root: The folder of ``deploy.yaml``.
        target: ``host:port`` of tritonserver.
        grpc: ``host:port`` for callers over gRPC; None: none.
        http: ``host:port`` for callers over HTTP; None: none.
        keys: Absolute path of the file of callers; None: only the key of the environment is known.
        tls: None: plain text.
        request_log: None: nowhere.
        max_message_bytes: The largest request.
        max_calls: The most questions that are passed on at once.
        timeout_s: Of a question that brings no deadline.
        max_timeout_s: The longest time of a question.
        max_age_s: Connections are closed in order at about this age.
        drain_s: How long questions in flight may take at the end.
        wait_s: How long a question may wait for a server that is away.
        route_canary: Whether questions for a stable channel are routed by the canary's share.
        attributes: Names of the catalogue, in its order.
        currency: Of ``COST``.
        traces: None: no spans.
        follow_traces: Whether the trace of a caller goes on.
    """

    root: str
    target: str
    grpc: str | None
    http: str | None
    keys: str | None
    tls: TlsFiles | None
    request_log: RequestLog | None
    max_message_bytes: int
    max_calls: int
    timeout_s: float
    max_timeout_s: float
    max_age_s: float
    drain_s: float
    wait_s: float
    route_canary: bool
    attributes: list[str] = []
    currency: str = ""
    traces: Traces | None = None
    follow_traces: bool = False

    @property
    def addresses(self) -> str:
        """Where it listens, for messages."""
        return " and ".join(filter(None, (self.grpc, self.http)))
