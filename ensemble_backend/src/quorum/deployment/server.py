# SPDX-License-Identifier: Apache-2.0
"""The sections of ``deploy.yaml`` on addresses: ``server``, and ``fleet`` of servers that change as one."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from quorum.deployment.strict import Strict, error_at

Port = Annotated[int, Field(ge=0, le=65_535)]


class FleetServer(Strict):
    """One server, or all servers behind a DNS name, that rollouts go to.

    Attributes:
        grpc: ``host:port``, or ``dns:name:port`` for every address of a (headless) DNS name.
        repository: Local path of its model repository; the deployment's own by default.
    """

    grpc: str
    repository: str | None = None

    @field_validator("grpc")
    @classmethod
    def _address(cls, address: str) -> str:
        host, _, port = address.removeprefix("dns:").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{address!r} is no address; write host:port, or dns:name:port")
        return address


class MetricsSpec(Strict):
    """Where `quorum up` serves the metrics of votes, members and endpoints.

    Attributes:
        host: Address to listen at. The page names members, endpoints, costs and no texts; it asks for no key.
        port: Of ``/metrics``; 0 means a free one.
    """

    host: str = "127.0.0.1"
    port: Port = 8003


class TracesSpec(Strict):
    """Where spans of OpenTelemetry are sent, and of which requests.

    Attributes:
        url: OTLP over HTTP of a collector, such as ``http://127.0.0.1:4318/v1/traces``.
        share: Of requests without a ``traceparent``, from 0 to 1: one of ``1 / share``, rounded, is traced.
            Each request with one is.
        service: ``service.name`` of the spans.
        flush_s: Seconds between two batches.
    """

    url: str
    share: Annotated[float, Field(ge=0, le=1)] = 0.01
    service: Annotated[str, Field(min_length=1, pattern=r"^[^,=\s]+$")] = "quorum"
    flush_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        # It stands on Triton's command line, which all users of the machine can read.
        if any(mark in url for mark in "@?#,"):
            raise ValueError("no user or key in the address; set OTEL_EXPORTER_OTLP_HEADERS for `quorum up`")
        try:
            parts = urlsplit(url)
            is_whole = bool(parts.hostname and parts.path.strip("/")) and parts.port != 0
        except ValueError:
            is_whole = False
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if not is_whole or not is_plain or parts.scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no address; write http://HOST:4318/v1/traces, OTLP over HTTP")
        return url

    @property
    def rate(self) -> int:
        """Triton's ``rate``: one of so many requests is traced; 0: none."""
        return round(1 / self.share) if self.share else 0


class ServerSpec(Strict):
    """Addresses and settings of the server.

    Attributes:
        host: Address to listen at; one that others can reach needs ``trusted_network`` or an inference key.
        trusted_network: All who can reach ``host`` are trusted, so Triton itself listens there.
        grpc_port: KServe v2 over gRPC; port 0 means a free one.
        http: Whether Triton also serves KServe v2 over HTTP. One request of 130 kB can stop it there.
        http_port: The port for that.
        metrics_port: Triton's own metrics.
        metrics: Where the metrics of votes are served; None: nowhere. They are counted either way.
        traces: Where spans are sent; None: nothing is traced.
        log: ``json``: `quorum up` writes its own lines, those of the steps and of Triton to standard error as
            JSON; ``text``: its own, as text.
        connection_age_s: gRPC connections are closed in order at about this age, so that forgotten ones do
            not add up; clients connect again without a failed call.
        log_verbose: Triton's ``--log-verbose``.
        aslr: Keep the kernel's setting: random addresses, as a rule. Without ASLR, steps that take turns on
            a core cost less, and an attacker knows where code lies.
    """

    host: str = "127.0.0.1"
    trusted_network: bool = False
    grpc_port: Port = 8001
    http: bool = False
    http_port: Port = 8000
    metrics_port: Port = 8002
    metrics: MetricsSpec | None = None
    traces: TracesSpec | None = None
    log: Literal["text", "json"] = "text"
    connection_age_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    log_verbose: Annotated[int, Field(ge=0)] = 0
    aslr: bool = True

    @property
    def ports(self) -> dict[str, int]:
        """The ports that are listened at, by their keys; 0: a free one."""
        ports = {"grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        if self.metrics:
            ports["metrics.port"] = self.metrics.port
        return ports | {"http_port": self.http_port} if self.http else ports

    @model_validator(mode="after")
    def _ports_of_their_own(self) -> ServerSpec:
        taken: dict[int, str] = {}
        for key, port in self.ports.items():
            if port and (first := taken.setdefault(port, key)) != key:
                # The one that the file names, as the other may have its port by default.
                named = key if key in self.model_fields_set else first
                raise error_at(
                    named, f"{first} and {key} are both {port}; choose another, or 0 for a free one"
                )
        return self
