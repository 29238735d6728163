# SPDX-License-Identifier: Apache-2.0
"""The settings of a gateway, from ``deploy.yaml`` and the addresses of its server."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from quorum.deployment.gateway import LARGEST_QUESTION_BYTES, GatewaySpec
from quorum.deployment.schema import Deployment
from quorum.extras import how_to_install
from quorum.gateway.keys import KeysError, read_callers
from quorum.gateway.settings import INFERENCE_KEY_VARIABLE, RequestLog, Settings, TlsFiles, Traces
from quorum.gateway.tls import Certificates
from quorum.records import Record
from quorum.server.endpoint import Endpoint, ServerProcessError, check_port
from quorum.server.runfile import endpoint_of
from quorum.server.traces import check as check_traces
from quorum_contract.errors import QuorumError

# The gate refuses and ends questions in its own words before the gateway does.
_SPARE_CALLS, _SPARE_S = 64, 5.0
DRAIN_S = 30.0
"""How long calls in flight may take when the gateway closes."""
_CONNECT_S = 1.0


def settings_of(spec: Deployment, endpoint: Endpoint) -> Settings | None:
    """The settings of the gateway of an endpoint; None: it has none.

    Without a section ``gateway`` its only caller is the one with the key of the environment.
    """
    if endpoint.gateway is None and endpoint.gateway_http is None:
        return None
    own = spec.gateway
    tls, log = (own.tls, own.request_log) if own else (None, None)
    traces = spec.server.traces

    def absolute(path: str) -> str:
        return str(spec.root / path)

    return Settings(
        root=str(spec.root),
        target=endpoint.grpc_url,
        grpc=endpoint.gateway,
        http=endpoint.gateway_http,
        keys=absolute(own.keys) if own else None,
        tls=TlsFiles(
            absolute(tls.certificate), absolute(tls.key), absolute(tls.client_ca) if tls.client_ca else None
        )
        if tls
        else None,
        request_log=RequestLog(absolute(log.path), log.share, log.texts) if log else None,
        max_message_bytes=own.max_message_bytes if own else LARGEST_QUESTION_BYTES,
        max_calls=spec.gate.max_in_flight + _SPARE_CALLS,
        timeout_s=spec.gate.timeout_s,
        max_timeout_s=spec.gate.max_timeout_s + _SPARE_S,
        max_age_s=spec.server.connection_age_s,
        drain_s=DRAIN_S,
        wait_s=own.wait_s if own else GatewaySpec.model_fields["wait_s"].default,
        route_canary=own.route_canary if own else False,
        attributes=list(spec.attributes),
        currency=spec.currency,
        traces=Traces(traces.url, traces.service, traces.flush_s, traces.share) if traces else None,
        # The key of the environment is that of one caller, who may do everything.
        follow_traces=own.follow_traces if own else True,
    )


def check_gateway(spec: Deployment, endpoint: Endpoint, key: str | None) -> None:
    """Refuse at once what the gateway would refuse once the LLMs have loaded.

    Raises:
        ServerProcessError: A port of it is taken, or HTTP needs packages that are missing.
        KeysError: It has no callers, or their file cannot be used.
        CertificateError: Its certificate cannot be used.
        TracingError: It is traced, and OpenTelemetry is not installed.
    """
    settings = settings_of(spec, endpoint)
    if settings is None:
        return
    check_traces(spec.server.traces)
    _check_packages(settings)
    section = "gateway" if spec.gateway else "server"
    for name, address in (("grpc_port", settings.grpc), ("http_port", settings.http)):
        if address is not None:
            host, _, port = address.rpartition(":")
            check_port(name, host, int(port), section)
    _check_keys(settings, key)
    if settings.tls:
        Certificates(settings.tls)


def gateway_problems(spec: Deployment, key: str | None) -> list[str]:
    """What the gateway of a deployment lacks here: packages, callers, certificates. No port is looked at."""
    own = spec.gateway
    if own is None:
        return []
    named = {key: f"{own.host}:{port}" for key, port in own.ports.items()}
    endpoint = replace(endpoint_of(spec), gateway=named.get("grpc_port"), gateway_http=named.get("http_port"))
    settings = settings_of(spec, endpoint)
    assert settings is not None
    problems = []
    for check in (
        _check_packages,
        lambda settings: _check_keys(settings, key),
        lambda settings: settings.tls and Certificates(settings.tls),
    ):
        try:
            check(settings)
        except QuorumError as error:
            problems.append(f"gateway: {error}")
    return problems


def _check_packages(settings: Settings) -> None:
    if settings.http is not None and not all(map(find_spec, ("starlette", "uvicorn"))):
        raise ServerProcessError(
            f"gateway.http_port needs Starlette and uvicorn: {how_to_install('gateway')}, or leave it out"
        )


def _check_keys(settings: Settings, key: str | None) -> None:
    if settings.keys and (Path(settings.keys).exists() or key is None):
        callers = read_callers(Path(settings.keys))
        if not callers and key is None:
            raise KeysError(
                f"{settings.keys} has no caller; add one with `quorum gateway keys add NAME`, or set "
                f"{INFERENCE_KEY_VARIABLE}"
            )


def is_open(endpoint: Endpoint) -> bool:
    """Whether the gateway of an endpoint, if it has one, takes connections."""
    for address in filter(None, (endpoint.gateway, endpoint.gateway_http)):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class GatewayStatus(Record):
    """The gateway of a server: ``host:port`` over gRPC and HTTP, and whether it takes connections."""

    grpc: str | None
    http: str | None
    is_open: bool


def gateway_status(endpoint: Endpoint) -> GatewayStatus | None:
    """The gateway of an endpoint; None: it has none."""
    if endpoint.gateway is None and endpoint.gateway_http is None:
        return None
    return GatewayStatus(endpoint.gateway, endpoint.gateway_http, is_open(endpoint))
