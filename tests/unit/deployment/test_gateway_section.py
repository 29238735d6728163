# SPDX-License-Identifier: Apache-2.0
"""The section ``gateway`` of ``deploy.yaml``, and the addresses and settings that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.deployment import FREE_PORTS, write_deployment

from quorum.deployment import DeploymentError, load_deployment
from quorum.server.endpoint import resolve_endpoint
from quorum.server.exposure import ExposedError
from quorum.server.gateway_settings import settings_of


def test_its_addresses_are_its_own(tmp_path: Path) -> None:
    gateway = {"host": "0.0.0.0", "grpc_port": 0, "http_port": 8443, "keys": "callers.json"}
    traces = {"url": "http://127.0.0.1:4318/v1/traces", "share": 0.25}
    server = {**FREE_PORTS, "traces": traces}
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}, gateway=gateway, server=server))
    claims: list[Any] = []
    endpoint = resolve_endpoint(spec, claims, behind_gateway=True)
    try:
        settings = settings_of(spec, endpoint)
    finally:
        for claim in claims:
            claim.close()
    assert settings
    assert endpoint.host == "127.0.0.1"
    assert settings.target == endpoint.grpc_url
    assert (settings.grpc or "").startswith("0.0.0.0:")
    assert settings.http == "0.0.0.0:8443"
    assert settings.keys == str(tmp_path.resolve() / "callers.json")
    assert settings.traces
    assert (settings.traces.url, settings.traces.share) == (traces["url"], 0.25)
    assert not settings.follow_traces
    assert settings.attributes == ["brand", "color", "size"]


def test_a_gateway_elsewhere_does_not_open_tritons_ports(tmp_path: Path) -> None:
    spec = load_deployment(
        write_deployment(
            tmp_path, {"alpha": {}}, gateway={"grpc_port": 0}, server={"host": "0.0.0.0", "grpc_port": 0}
        )
    )
    with pytest.raises(ExposedError, match="any caller can stop it"):
        resolve_endpoint(spec, [], behind_gateway=True)


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ({}, "listens nowhere"),
        ({"grpc_port": 8443, "http_port": 8443}, "both 8443"),
        ({"grpc_port": 9101}, r"9101 is server\.metrics_port already"),
        ({"grpc_port": 0, "tls": {"certificate": "a.pem"}}, "key"),
        ({"grpc_port": 0, "request_log": {"path": "log", "share": 2}}, "less than or equal to 1"),
        ({"grpc_port": 0, "max_message_bytes": 1 << 30}, "less than or equal"),
        ({"grpc_port": 0, "wait_s": -1}, "greater than or equal"),
        ({"grpc_port": 0, "port": 1}, "port"),
    ],
)
def test_a_section_that_cannot_work_is_refused(tmp_path: Path, gateway: dict[str, Any], problem: str) -> None:
    server = {"grpc_port": 0, "metrics_port": 9101}
    deploy = write_deployment(tmp_path, {"alpha": {}}, gateway=gateway, server=server)
    with pytest.raises(DeploymentError, match=problem):
        load_deployment(deploy)
