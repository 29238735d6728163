# SPDX-License-Identifier: Apache-2.0
"""What other machines can reach: nothing by default, and no Triton without a word of the operator."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.command import quorum, start, wait_for_note
from support.deployment import FREE_PORTS, Live, plain_triton, title, write_deployment
from support.gateway import KEY, other_address

import quorum_client as qc
from quorum import serve
from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.server.exposure import ExposedError
from quorum.server.runfile import find_running

ADDRESS = other_address()
needs_address = pytest.mark.skipif(ADDRESS is None, reason="this machine has only loopback addresses")


def is_open(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(10)
        return sock.connect_ex((host, port)) == 0


@needs_address
def test_by_default_another_address_of_the_machine_is_refused(steady: Live) -> None:
    assert ADDRESS
    for port in steady.endpoint.ports().values():
        assert is_open("127.0.0.1", port)
        assert not is_open(ADDRESS, port)


@pytest.mark.parametrize("host", ["0.0.0.0", ADDRESS or "192.0.2.1", "no-such-host.invalid"])
def test_an_address_for_others_is_refused_with_the_choices(tmp_path: Path, host: str) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}}, server={**FREE_PORTS, "host": host})
    spec = load_deployment(deploy)
    render(spec)
    with pytest.raises(ExposedError) as caught, serve(spec):
        pass
    for choice in (host, "127.0.0.1", "QUORUM_INFERENCE_KEY", "trusted_network", "QUORUM_TRUSTED_NETWORK"):
        assert choice in str(caught.value)
    assert not (tmp_path / ".quorum" / "server.log").exists()


def test_the_variable_of_the_address_is_refused_as_well(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    _, err = quorum(tmp_path, "up", code=1, QUORUM_HOST="0.0.0.0")
    assert "QUORUM_INFERENCE_KEY" in err


@pytest.mark.parametrize("key", ["short", "sixteen letters and spaces", "größer-als-sechzehn-zeichen"])
def test_a_key_that_cannot_serve_is_refused(tmp_path: Path, key: str) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    _, err = quorum(tmp_path, "up", code=1, QUORUM_INFERENCE_KEY=key)
    assert "at least 16" in err
    assert key not in err


@needs_address
def test_on_a_trusted_network_the_server_listens_for_others(tmp_path: Path) -> None:
    assert ADDRESS
    deploy = write_deployment(
        tmp_path, {"alpha": {}}, server={**FREE_PORTS, "host": ADDRESS, "trusted_network": True}
    )
    render(load_deployment(deploy))
    with plain_triton(deploy) as live:
        for port in live.endpoint.ports().values():
            assert is_open(ADDRESS, port)
            assert not is_open("127.0.0.1", port)


@needs_address
def test_with_a_key_only_the_gateway_listens_for_others(tmp_path: Path) -> None:
    assert ADDRESS
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    process = start(tmp_path, "up", QUORUM_HOST=ADDRESS, QUORUM_INFERENCE_KEY=KEY)
    try:
        wait_for_note(tmp_path, process)
        running = find_running(load_deployment(tmp_path / "deploy.yaml"))
        assert running
        for port in running.endpoint.ports().values():
            assert is_open("127.0.0.1", port)
            assert not is_open(ADDRESS, port)
        assert running.endpoint.gateway
        assert running.endpoint.gateway.startswith(f"{ADDRESS}:")
        with qc.Client(running.endpoint.gateway, key=KEY) as client:
            assert client.extract(title(0), ["brand"]).weights_version == 1
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_network_is_trusted_by_a_variable(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    process = start(tmp_path, "up", QUORUM_HOST="0.0.0.0", QUORUM_TRUSTED_NETWORK="1")
    try:
        wait_for_note(tmp_path, process)
        running = find_running(load_deployment(tmp_path / "deploy.yaml"))
        assert running
        assert (running.endpoint.host, running.endpoint.gateway) == ("0.0.0.0", None)
    finally:
        process.terminate()
        process.communicate(timeout=60)
