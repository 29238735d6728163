# SPDX-License-Identifier: Apache-2.0
"""The section ``gateway`` of ``deploy.yaml``: what callers who are not trusted can reach, and its limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from quorum.deployment.server import Port
from quorum.deployment.strict import Strict, error_at
from quorum_contract import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_CATEGORY_BYTES, MAX_TEXT_BYTES

# Each element has a length and a tag; ids, names of tensors, shapes and the deadline take the rest.
_ELEMENT_BYTES, _ENVELOPE_BYTES = 8, 4096
LARGEST_QUESTION_BYTES = (
    MAX_TEXT_BYTES
    + MAX_CATEGORY_BYTES
    + MAX_ATTRIBUTES * (MAX_ATTRIBUTE_BYTES + _ELEMENT_BYTES)
    + _ENVELOPE_BYTES
)
"""A little more than the largest question of the contract."""
_SMALLEST = 1024


class GatewayTls(Strict):
    """Certificates, as PEM files relative to ``deploy.yaml``; they are read again when they are replaced.

    Attributes:
        certificate: Of the gateway, with the chain up to its authority.
        key: Its private key.
        client_ca: Authorities of callers. Given: a caller must show a certificate of one of them, next to its
            key (mutual TLS).
    """

    certificate: str
    key: str
    client_ca: str | None = None


class RequestLogSpec(Strict):
    """The log of requests over HTTP, a line of JSON each.

    Attributes:
        path: The file, relative to ``deploy.yaml``.
        share: Of the requests that are written, in [0, 1]; refused ones and failures always are.
        texts: Whether texts of products are written; by default only their lengths.
    """

    path: str
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    texts: bool = False


class GatewaySpec(Strict):
    """What callers who are not trusted can reach.

    Attributes:
        host: Address to listen at.
        grpc_port: KServe v2 over gRPC; 0: a free port; None: no gRPC.
        http_port: HTTP: extract, recommend, KServe v2 and OpenAI's form; 0: a free port; None: no HTTP.
        keys: The file of callers, relative to ``deploy.yaml``; `quorum gateway keys add` writes it.
        tls: Certificates; None: plain text, for loopback or behind a proxy with TLS.
        max_message_bytes: The largest request; by default a little more than the contract's largest.
        wait_s: How long a caller may wait for a server that is away or restarted, within its own deadline;
            0: callers are refused at once, so that they ask another server.
        route_canary: Whether requests for a stable channel are routed to the canary by its share. Callers of
            our own client choose themselves and are left alone.
        follow_traces: Whether the ``traceparent`` of a caller goes on, so that the caller chooses what is
            traced, at some CPU time for each; by default a share is, each in a trace of its own.
        request_log: Where requests over HTTP are logged; None: nowhere.
    """

    host: str = "127.0.0.1"
    grpc_port: Port | None = None
    http_port: Port | None = None
    keys: str = "keys.json"
    tls: GatewayTls | None = None
    max_message_bytes: Annotated[int, Field(ge=_SMALLEST, le=LARGEST_QUESTION_BYTES)] = LARGEST_QUESTION_BYTES
    wait_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    route_canary: bool = True
    follow_traces: bool = False
    request_log: RequestLogSpec | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The ports that are listened at, by their keys; 0: a free one."""
        named = {"grpc_port": self.grpc_port, "http_port": self.http_port}
        return {key: port for key, port in named.items() if port is not None}

    @model_validator(mode="after")
    def _ports(self) -> GatewaySpec:
        if not self.ports:
            raise ValueError("the gateway listens nowhere; give it a grpc_port, an http_port or both")
        if self.grpc_port and self.grpc_port == self.http_port:
            raise error_at(
                "http_port",
                f"grpc_port and http_port are both {self.http_port}; choose another, or 0 for a free one",
            )
        return self
