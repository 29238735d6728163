# SPDX-License-Identifier: Apache-2.0
"""Certificates that are replaced while both halves of a gateway serve them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from support.certificates import NO_OPENSSL, make_certificates, sign

from quorum.gateway import tls as module
from quorum.gateway.http.serve import _current
from quorum.gateway.settings import TlsFiles
from quorum.gateway.tls import Certificates

pytestmark = NO_OPENSSL


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return make_certificates(folder)


def put(made: Path, folder: Path) -> None:
    for name in ("server.key", "server.pem"):
        shutil.copy(made / name, folder / name)


def test_a_certificate_that_grpc_took_serves_http_though_its_files_break_then(
    made: Path, tmp_path: Path
) -> None:
    put(made, tmp_path)
    certificates = Certificates(TlsFiles(str(tmp_path / "server.pem"), str(tmp_path / "server.key")))
    authority = ssl.create_default_context(cafile=str(made / "ca.pem"))

    def served(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as sock,
            authority.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""

    async def run() -> None:
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=_current(certificates)
        )
        port = server.sockets[0].getsockname()[1]
        first = await asyncio.to_thread(served, port)
        sign(made, "server")
        put(made, tmp_path)
        # As a handshake over gRPC does.
        assert certificates.version() == 1
        (tmp_path / "server.pem").write_text("broken", "ascii")
        second = await asyncio.to_thread(served, port)
        assert second == ssl.PEM_cert_to_DER_cert((made / "server.pem").read_text("ascii")) != first
        assert await asyncio.to_thread(served, port) == second
        server.close()

    asyncio.run(run())


def test_files_that_are_replaced_while_they_are_read_are_read_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the halves could serve certificates of two kinds."""
    put(made, tmp_path)
    certificates = Certificates(TlsFiles(str(tmp_path / "server.pem"), str(tmp_path / "server.key")))
    first, take = certificates.context(), module._context
    sign(made, "server")
    put(made, tmp_path)

    def late(files: TlsFiles) -> ssl.SSLContext:
        found = take(files)
        sign(made, "server")
        put(made, tmp_path)
        return found

    monkeypatch.setattr(module, "_context", late)
    assert certificates.version() == 0
    assert certificates.context() is first
    monkeypatch.setattr(module, "_context", take)
    assert certificates.version() == 1
    assert certificates.context() is not first
