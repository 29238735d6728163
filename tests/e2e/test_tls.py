# SPDX-License-Identifier: Apache-2.0
"""The client over TLS and mutual TLS, against a real server with certificates made for the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import NO_OPENSSL, make_certificates
from support.deployment import ATTRIBUTES, START_S, said, title, write_deployment

from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.server.triton import TritonServer
from quorum_client import AsyncClient, Client, Disconnected, Tls, Unreachable

pytestmark = NO_OPENSSL


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Tlsd(TritonServer):
    """tritonserver with a certificate; what `deploy.yaml` does not offer, a proxy in front does the same."""

    flags: tuple[str, ...] = ()

    def _command(self, backends: Path) -> list[str]:
        return [*super()._command(backends), *self.flags]


@contextmanager
def serving(folder: Path, certificates: Path, mutual: bool) -> Iterator[str]:
    spec = load_deployment(write_deployment(folder, {"alpha": {}}))
    render(spec)
    server = Tlsd(spec, log_path=folder / "server.log")
    server.flags = (
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={certificates / 'server.pem'}",
        f"--grpc-server-key={certificates / 'server.key'}",
        f"--grpc-root-cert={certificates / 'ca.pem'}",
        *(("--grpc-use-ssl-mutual=1",) if mutual else ()),
    )
    tls = Tls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    try:
        server.start()
        with Client(server.endpoint.grpc_url, tls=tls) as client:
            server.wait_ready(client.is_ready, START_S)
        yield server.endpoint.grpc_url
    finally:
        server.stop(drain_s=0)


def check(url: str, tls: Tls) -> None:
    async def awaited() -> str | None:
        async with AsyncClient(url, tls=tls, canary_share=0.0) as client:
            return (await client.extract(title(1), ATTRIBUTES, category="shoes"))["color"].value

    with Client(url, tls=tls) as client:
        assert client.extract(title(1), ATTRIBUTES, category="shoes")["color"].value == said(0, 1, "color")
        assert client.is_ready("quorum_canary")
    assert asyncio.run(awaited()) == said(0, 1, "color")


def test_a_server_with_a_certificate(tmp_path: Path, certificates: Path) -> None:
    ca = certificates / "ca.pem"
    with serving(tmp_path, certificates, mutual=False) as url:
        check(url, Tls(ca))
        check(url.replace("127.0.0.1", "localhost"), Tls(ca))
        with Client(url, tls=Tls(certificates / "stranger.pem")) as client:
            with pytest.raises(Unreachable) as caught:
                client.extract(title(1), ATTRIBUTES)
            assert not client.is_ready()
        assert "certificate" in str(caught.value).lower()
        with Client(url, tls=True) as client, pytest.raises(Unreachable):
            client.extract(title(1), ATTRIBUTES)
        start = time.monotonic()
        with Client(url, timeout_s=20) as client, pytest.raises((Unreachable, Disconnected)):
            client.extract(title(1), ATTRIBUTES)
        assert time.monotonic() - start < 20


def test_a_server_that_wants_a_certificate_too(tmp_path: Path, certificates: Path) -> None:
    ca, client_pem, client_key = (certificates / name for name in ("ca.pem", "client.pem", "client.key"))
    with serving(tmp_path, certificates, mutual=True) as url:
        check(url, Tls(ca, client_pem, client_key))
        with Client(url, tls=Tls(ca)) as client, pytest.raises((Unreachable, Disconnected)):
            client.extract(title(1), ATTRIBUTES)
        stranger = Tls(ca, certificates / "stranger.pem", certificates / "stranger.key")
        with Client(url, tls=stranger) as client, pytest.raises((Unreachable, Disconnected)):
            client.extract(title(1), ATTRIBUTES)
