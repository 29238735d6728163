# SPDX-License-Identifier: Apache-2.0
"""Run a gateway: both halves in one process, until a signal ends it or its parent is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from quorum.gateway.callers import Callers
from quorum.gateway.grpc_half import grpc_half
from quorum.gateway.health import Health
from quorum.gateway.hops import Hops
from quorum.gateway.keys import ROLES, Caller, Keys, KeysError, hash_of
from quorum.gateway.parts import Gateway
from quorum.gateway.routing import Router
from quorum.gateway.settings import Settings
from quorum.gateway.tls import Certificates
from quorum.gateway.upstream import Upstream

ENVIRONMENT_CALLER = "inference-key"
"""Name of the caller with the key of the environment, who may do everything."""
_CHUNK_BYTES = 1 << 16


@asynccontextmanager
async def open_gateway(settings: Settings, key: str | None) -> AsyncIterator[Gateway]:
    """Listen at the addresses of the settings for the time of a block; then answer what is in flight.

    Args:
        settings: See there.
        key: The key of the environment; None: there is none.

    Raises:
        KeysError: There is no caller, or their file cannot be used.
        CertificateError: The certificate cannot be used.
        RuntimeError: An address is taken.
        TracingError: OpenTelemetry is not installed.
    """
    others = [Caller(ENVIRONMENT_CALLER, hash_of(key), ROLES)] if key else []
    if settings.keys is None and not others:
        raise KeysError("a gateway needs callers: a file of keys, or QUORUM_INFERENCE_KEY")
    keys = Keys(Path(settings.keys) if settings.keys else None, others)
    async with AsyncExitStack() as stack:
        hops = Hops(settings.traces, trusts_callers=settings.follow_traces)
        stack.callback(hops.close)
        upstream = await stack.enter_async_context(
            Upstream(settings.target, settings.max_calls, settings.wait_s, settings.max_timeout_s)
        )
        callers = Callers(keys, Path(settings.root))
        stack.push_async_callback(callers.close)
        certificates = Certificates(settings.tls) if settings.tls else None
        gateway = Gateway(settings, callers, upstream, Router(), certificates, hops, Health(upstream))
        halves: list[AbstractAsyncContextManager[None]] = []
        if settings.grpc is not None:
            halves.append(grpc_half(gateway, settings.grpc))
        if settings.http is not None:
            # Starlette is part of an extra.
            from quorum.gateway.http.serve import http_half

            halves.append(http_half(gateway, settings.http))
        await stack.enter_async_context(_together(halves))
        yield gateway


@asynccontextmanager
async def _together(halves: list[AbstractAsyncContextManager[None]]) -> AsyncIterator[None]:
    """Open the halves one after another, and close them at once: each may take its time to drain."""
    opened: list[AbstractAsyncContextManager[None]] = []
    try:
        for half in halves:
            await half.__aenter__()
            opened.append(half)
        yield
    finally:
        await asyncio.gather(*(half.__aexit__(None, None, None) for half in opened))


async def serve(
    settings: Settings, key: str | None, say_ready: Callable[[], None], parent: int | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process that started this one is gone.

    That process may send settings, as lines of JSON; the gateway takes over what a running one can.

    Args:
        settings: See there.
        key: The key of the environment; None: there is none.
        say_ready: Called once callers can connect.
        parent: A pipe that ends with the process that started this one; None: there is none.
    """
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, over.set)
    opened: list[Gateway] = []
    if parent is not None:
        received = bytearray()

        def heed_parent() -> None:
            received.extend(sent := os.read(parent, _CHUNK_BYTES))
            if not sent:
                # An end of file can be read for ever.
                loop.remove_reader(parent)
                over.set()
            *lines, rest = received.split(b"\n")
            received[:] = rest
            for line in lines:
                for gateway in opened:
                    gateway.follow(msgspec.json.decode(line, type=Settings))

        loop.add_reader(parent, heed_parent)
    async with open_gateway(settings, key) as gateway:
        opened.append(gateway)
        say_ready()
        await over.wait()
