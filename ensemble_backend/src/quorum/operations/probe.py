# SPDX-License-Identifier: Apache-2.0
"""Probe whether a channel can answer, once or for every HTTP request of an orchestrator."""

from __future__ import annotations

from collections.abc import Callable

from quorum.deployment.schema import Deployment
from quorum.server.control import Control
from quorum.server.gateway_settings import is_open
from quorum.server.http import ProbeServer
from quorum.server.probe import PROBE_TIMEOUT_S, Pulse, take_pulse
from quorum.server.runfile import endpoint_of
from quorum.server.triton import ServerProcessError, TritonServer
from quorum_contract import STABLE

_TIMEOUT_S = 2.0


def probe(
    deployment: Deployment,
    channel: str = STABLE,
    *,
    url: str | None = None,
    timeout_s: float = PROBE_TIMEOUT_S,
    full: bool = False,
) -> Pulse:
    """Probe whether a channel can answer, within the timeout and without raising.

    Args:
        deployment: The deployment that is served.
        channel: Ensemble to ask.
        url: ``host:port`` of the server; None: the local server, else the one that ``deploy.yaml`` names.
        timeout_s: A channel without an answer by then is not ready.
        full: Ask the LLMs a real question, and as many must work as `vote.min_members`. Default: ask no LLM.
    """
    return take_pulse(deployment, url or endpoint_of(deployment).grpc_url, channel, timeout_s, full)


def probe_server(
    deployment: Deployment,
    host: str,
    port: int,
    *,
    url: str | None = None,
    timeout_s: float = PROBE_TIMEOUT_S,
    full: bool = False,
) -> ProbeServer:
    """Serve ``/live`` and ``/ready/CHANNEL`` over HTTP during a ``with`` block; see :func:`probe`.

    It listens on ``host`` and ``port``, 0 for a free one; raises ServerProcessError if that cannot be opened.
    """

    def address() -> str:
        # Looked up each time: a restarted server may listen elsewhere.
        return url or endpoint_of(deployment).grpc_url

    def live() -> bool:
        with Control(address(), "", _TIMEOUT_S) as control:
            return control.is_live()

    def pulse(channel: str) -> Pulse:
        return take_pulse(deployment, address(), channel, timeout_s, full)

    return _serve(deployment, host, port, "--http", pulse, live)


def probes_of(server: TritonServer, port: int) -> ProbeServer:
    """Serve ``/live`` and ``/ready/CHANNEL`` of a server of this process during a ``with`` block.

    A server that still loads its LLMs is live and not ready, nor is one whose gateway is shut. One that no
    channel answers of, or whose restart failed, is not live (:class:`quorum.server.life.Life`). Raises as
    :func:`probe_server`.
    """

    def pulse(channel: str) -> Pulse:
        if server.spec.gateway is None:
            return take_pulse(server.spec, server.endpoint.callers_url, channel, _TIMEOUT_S)
        # This process has no key of it, and perhaps no certificate.
        if not is_open(server.endpoint):
            return Pulse(channel, False, None, 0.0, "the gateway is shut")
        return take_pulse(server.spec, server.endpoint.grpc_url, channel, _TIMEOUT_S)

    spec = server.spec
    return _serve(spec, spec.server.host, port, "--probe-port", pulse, lambda: server.life.is_live)


def _serve(
    deployment: Deployment,
    host: str,
    port: int,
    option: str,
    pulse: Callable[[str], Pulse],
    live: Callable[[], bool],
) -> ProbeServer:
    try:
        return ProbeServer(host, port, deployment.channels, pulse, live)
    except OSError as error:
        raise ServerProcessError(
            f"{option} {port} on {host}: {error.strerror}; choose another port"
        ) from error
