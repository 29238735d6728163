# SPDX-License-Identifier: Apache-2.0
"""The HTTP half of a gateway in this process, before a server that is away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from quorum.gateway.callers import Callers
from quorum.gateway.health import Health
from quorum.gateway.hops import Hops
from quorum.gateway.http.serve import http_half
from quorum.gateway.keys import ROLES, Caller, Keys, hash_of
from quorum.gateway.parts import Gateway
from quorum.gateway.routing import Router
from quorum.gateway.settings import RequestLog, Settings
from quorum.gateway.tls import Certificates
from quorum.gateway.upstream import Upstream

KEY = "a-key-that-only-some-know"


@asynccontextmanager
async def gateway_of(folder: Path, **changed: Any) -> AsyncIterator[Gateway]:
    """A gateway that listens nowhere; ``changed`` are fields of its settings."""
    settings = Settings(
        root=str(folder), target="127.0.0.1:1", grpc=None, http=None, keys=None, tls=None,
        request_log=RequestLog(str(folder / "requests.jsonl")), max_message_bytes=45_000, max_calls=8,
        timeout_s=5.0, max_timeout_s=10.0, max_age_s=60.0, drain_s=5.0, wait_s=0.0, route_canary=True,
        attributes=["brand", "color"],
    )  # fmt: skip
    settings = msgspec.structs.replace(settings, **changed)
    keys = Keys(None, [Caller("shop", hash_of(KEY), ROLES)])
    upstream = Upstream(settings.target, settings.max_calls, settings.wait_s, settings.max_timeout_s)
    async with upstream:
        hops = Hops(None, trusts_callers=True)
        certificates = Certificates(settings.tls) if settings.tls else None
        yield Gateway(
            settings, Callers(keys, folder), upstream, Router(), certificates, hops, Health(upstream)
        )


def claimed_port() -> socket.socket:
    """A socket that keeps a free port of loopback, and listens not: who connects there is refused.

    Another socket that reuses addresses may listen at it, and no other program gets it.
    """
    claim = socket.socket()
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claim.bind(("127.0.0.1", 0))
    return claim


@asynccontextmanager
async def serving(folder: Path, **changed: Any) -> AsyncIterator[int]:
    """Serve over HTTP for the time of a block; gives the port."""
    with claimed_port() as claim:
        port = int(claim.getsockname()[1])
        async with gateway_of(folder, **changed) as gateway, http_half(gateway, f"127.0.0.1:{port}"):
            yield port


async def exchange(port: int, request: bytes, *, seconds: float = 60.0, host: str = "127.0.0.1") -> bytes:
    """Send bytes on a connection of their own, and read until it is closed or quiet for the time."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            return await reader.read(-1)
    finally:
        writer.close()


def request_of(
    method: str, path: str, body: bytes = b"", *, key: str | None = KEY, headers: dict[str, str] | None = None
) -> bytes:
    """A request whose connection ends with it."""
    lines = {"host": "here", "connection": "close", **({"authorization": f"Bearer {key}"} if key else {})}
    if body or method == "POST":
        lines |= {"content-type": "application/json", "content-length": str(len(body))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body
