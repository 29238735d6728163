# SPDX-License-Identifier: Apache-2.0
"""Where a server listens: addresses, ports that no other program has, and the key of its administration."""

from __future__ import annotations

import errno
import os
import random
import secrets
import socket
from dataclasses import dataclass, replace

from quorum.deployment.gateway import GatewaySpec
from quorum.deployment.schema import Deployment
from quorum.server.exposure import LOOPBACK, check_exposed
from quorum_contract.errors import QuorumError

ADMIN_KEY_VARIABLE = "QUORUM_ADMIN_KEY"
# Below the kernel's ephemeral ports: an outgoing connection could take one before the server does.
_FREE_PORTS = range(20_000, 32_000)


class ServerProcessError(QuorumError, RuntimeError):
    """The server process did not start or ended by itself; the message holds its last log lines."""

    code = "SERVER_PROCESS_FAILED"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and the admin key for load, configuration, statistics, logging and trace.

    Attributes:
        host: Address of Triton's ports.
        grpc_port: Of tritonserver itself.
        http_port: ``None`` when Triton's HTTP endpoint is off.
        metrics_port: Prometheus.
        admin_key: For administration over gRPC and HTTP.
        gateway: ``host:port`` of the gateway for callers over gRPC; ``None`` when there is none.
        gateway_http: The same over HTTP.
    """

    host: str
    grpc_port: int
    http_port: int | None
    metrics_port: int
    admin_key: str
    gateway: str | None = None
    gateway_http: str | None = None

    @property
    def grpc_url(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def callers_url(self) -> str:
        """``host:port`` for callers over gRPC: the gateway's, if there is one."""
        return self.gateway or self.grpc_url

    def ports(self) -> dict[str, int]:
        """Triton's ports, by their keys in ``deploy.yaml``."""
        named = {"grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        return named if self.http_port is None else named | {"http_port": self.http_port}


def resolve_endpoint(spec: Deployment, claims: list[socket.socket], behind_gateway: bool) -> Endpoint:
    """Choose the addresses of a server; ``claims`` gets what keeps free ports from other servers.

    With a section ``gateway`` the gateway has addresses of its own. Without one, but ``behind_gateway``, it
    has those of ``server``, and Triton listens on loopback.

    Raises:
        ExposedError: Other machines would reach it, and nothing allows that.
    """
    s, own = spec.server, spec.gateway
    hides = behind_gateway and own is None
    if not hides:
        check_exposed(s)
    host = LOOPBACK if hides else s.host
    callers = s.grpc_port or _free_port(s.host, claims)
    grpc = _free_port(host, claims) if hides else callers
    http = (s.http_port or _free_port(host, claims)) if s.http else None
    metrics = s.metrics_port or _free_port(host, claims)
    key = os.environ.get(ADMIN_KEY_VARIABLE) or secrets.token_urlsafe(24)
    triton = Endpoint(host, grpc, http, metrics, key)
    if own is not None:
        return with_gateway(triton, own, claims)
    return replace(triton, gateway=f"{s.host}:{callers}") if hides else triton


def with_gateway(endpoint: Endpoint, gateway: GatewaySpec, claims: list[socket.socket]) -> Endpoint:
    """The endpoint with the addresses of a gateway in front of it."""
    ports = {key: port or _free_port(gateway.host, claims) for key, port in gateway.ports.items()}
    grpc, http = (
        f"{gateway.host}:{ports[key]}" if key in ports else None for key in ("grpc_port", "http_port")
    )
    return replace(endpoint, gateway=grpc, gateway_http=http)


def _free_port(host: str, claims: list[socket.socket]) -> int:
    """Choose a free port that no other server has claimed for its start.

    A claim, appended to ``claims``, is an abstract socket: the kernel gives a name to one process at a time.
    """
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0quorum-port-{port}")
            with socket.socket() as listener:
                listener.bind((host, port))
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            claims.append(claim)
            return port
    raise ServerProcessError(f"no port of {host} is free; name the ports of `server` in deploy.yaml")


def check_port(key: str, host: str, port: int, section: str = "server") -> None:
    """Raise ServerProcessError if the port that a section of ``deploy.yaml`` has under a key is taken."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ServerProcessError(
                f"{section}.{key} {port} on {host}: {error.strerror}; stop the program there, "
                f"choose another port in deploy.yaml, or 0 for a free one"
            ) from error
