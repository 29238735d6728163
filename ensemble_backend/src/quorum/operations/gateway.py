# SPDX-License-Identifier: Apache-2.0
"""Run the gateway of a deployment, and add, list and remove its callers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from quorum.deployment.gateway import GatewaySpec
from quorum.deployment.schema import Deployment
from quorum.gateway.keys import Role, add_caller, read_callers, remove_caller
from quorum.gateway.run import serve
from quorum.server.endpoint import with_gateway
from quorum.server.exposure import gateway_key
from quorum.server.gateway_settings import check_gateway, settings_of
from quorum.server.runfile import endpoint_of
from quorum.serving.budget import CALLERS, read_windows
from quorum_contract.errors import QuorumError


class NoGatewayError(QuorumError, ValueError):
    """``deploy.yaml`` has no section ``gateway``."""

    code = "NO_GATEWAY"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A caller that was added, and its key, which is kept nowhere.

    Attributes:
        name: Of the caller.
        key: For the header ``authorization: Bearer KEY``.
        path: The file that holds its hash.
        unpriced: Members without a price: a caller's cost is not known while one of them answers.
    """

    name: str
    key: str
    path: Path
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerStatus:
    """A caller, its quotas and what is counted of them on this machine, by the minute and day of UTC.

    Attributes:
        name: Of the caller.
        roles: What it may do.
        created: When its key was made.
        minute_requests: In this minute; counted only for callers with a quota.
        day_requests: On this day.
        day_cost: In the currency of the prices.
        requests_per_minute: None: no limit.
        requests_per_day: None: no limit.
        cost_per_day: None: no limit.
    """

    name: str
    roles: tuple[Role, ...]
    created: str | None
    minute_requests: int
    day_requests: int
    day_cost: float
    requests_per_minute: int | None
    requests_per_day: int | None
    cost_per_day: float | None


def add_key(
    deployment: Deployment,
    name: str,
    roles: Sequence[Role] = ("extract", "recommend"),
    *,
    requests_per_minute: int | None = None,
    requests_per_day: int | None = None,
    cost_per_day: float | None = None,
) -> NewKey:
    """Add a caller to the gateway's file; a gateway that runs knows it within a second.

    Raises:
        NoGatewayError: The deployment has no gateway.
        KeysError: The caller exists, or a name, role or limit cannot be used.
    """
    path = keys_path(deployment)
    key = add_caller(
        path,
        name,
        roles,
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
        cost_per_day=cost_per_day,
    )
    unpriced = [member for member, price in deployment.prices.items() if price is None]
    return NewKey(name, key, path, tuple(unpriced) if cost_per_day is not None else ())


def list_keys(deployment: Deployment) -> list[CallerStatus]:
    """The callers of the gateway's file.

    Raises:
        NoGatewayError: The deployment has no gateway.
        KeysError: The file cannot be used.
    """
    found = []
    for caller in read_callers(keys_path(deployment)):
        minute, day = read_windows(deployment.root, caller.name, CALLERS)
        found.append(
            CallerStatus(
                caller.name,
                caller.roles,
                caller.created,
                minute.calls,
                day.calls,
                day.cost,
                caller.requests_per_minute,
                caller.requests_per_day,
                caller.cost_per_day,
            )
        )
    return found


def remove_key(deployment: Deployment, name: str) -> None:
    """Remove a caller; a gateway that runs refuses its key within a second.

    Raises:
        NoGatewayError: The deployment has no gateway.
        KeysError: The file has no such caller.
    """
    remove_caller(keys_path(deployment), name)


def serve_gateway(
    deployment: Deployment, target: str | None = None, *, report: Callable[[str], None] = lambda _: None
) -> None:
    """Run the gateway until SIGTERM or SIGINT; questions in flight are answered first.

    Args:
        deployment: Its section ``gateway`` has the addresses and limits.
        target: ``host:port`` of tritonserver; None: the local server, else the one of ``deploy.yaml``.
        report: Called with a line once callers can connect.

    Raises:
        NoGatewayError: The deployment has no gateway.
        ServerProcessError: A port is taken.
        KeysError: There are no callers, or their file cannot be used.
        CertificateError: The certificate cannot be used.
    """
    own, claims = _section(deployment), list[socket.socket]()
    try:
        endpoint = with_gateway(endpoint_of(deployment), own, claims)
        key = gateway_key()
        check_gateway(deployment, endpoint, key)
        settings = settings_of(deployment, endpoint)
        assert settings is not None
        if target is not None:
            settings = msgspec.structs.replace(settings, target=target)
        asyncio.run(
            serve(
                settings,
                key,
                lambda: report(f"the gateway listens at {settings.addresses}, before {settings.target}"),
            )
        )
    finally:
        for claim in claims:
            claim.close()


def keys_path(deployment: Deployment) -> Path:
    """The gateway's file of callers."""
    return deployment.root / _section(deployment).keys


def _section(deployment: Deployment) -> GatewaySpec:
    if deployment.gateway is None:
        raise NoGatewayError(
            f"{deployment.path} has no section `gateway`; add one, such as `gateway: {{grpc_port: 8011}}`"
        )
    return deployment.gateway
