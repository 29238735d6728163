# SPDX-License-Identifier: Apache-2.0
"""Where a server listens: addresses, ports that no other program has, and the key of its administration."""

from __future__ import annotations

import errno
import os
import random
import secrets
import socket
from dataclasses import dataclass

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
        door: ``host:port`` of the relay that checks callers' keys; ``None`` when there is none.
    """

    host: str
    grpc_port: int
    http_port: int | None
    metrics_port: int
    admin_key: str
    door: str | None = None

    @property
    def grpc_url(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def callers_url(self) -> str:
        """``host:port`` for callers: the door's, if there is one."""
        return self.door or self.grpc_url

    def ports(self) -> dict[str, int]:
        """Triton's ports, by their keys in ``deploy.yaml``."""
        named = {"grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        return named if self.http_port is None else named | {"http_port": self.http_port}


def resolve_endpoint(spec: Deployment, claims: list[socket.socket], behind_door: bool) -> Endpoint:
    """Choose the addresses of a server; ``claims`` gets what keeps free ports from other servers.

    Raises:
        ExposedError: Other machines would reach it, and nothing allows that.
    """
    s = spec.server
    if not behind_door:
        check_exposed(s)
    host = LOOPBACK if behind_door else s.host
    callers = s.grpc_port or _free_port(s.host, claims)
    grpc = _free_port(host, claims) if behind_door else callers
    http = (s.http_port or _free_port(host, claims)) if s.http else None
    metrics = s.metrics_port or _free_port(host, claims)
    key = os.environ.get(ADMIN_KEY_VARIABLE) or secrets.token_urlsafe(24)
    return Endpoint(host, grpc, http, metrics, key, f"{s.host}:{callers}" if behind_door else None)


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


def check_port(key: str, host: str, port: int) -> None:
    """Raise ServerProcessError if the port that ``server`` has under a key is taken."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ServerProcessError(
                f"server.{key} {port} on {host}: {error.strerror}; stop the program there, "
                f"choose another port in deploy.yaml, or 0 for a free one"
            ) from error
