# SPDX-License-Identifier: Apache-2.0
"""The HTTP half of a gateway: Starlette's application on uvicorn, next to gRPC on one event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quorum.gateway.http.connection import SecureConnection, connections
from quorum.gateway.http.endpoint import Endpoints
from quorum.gateway.http.exchange import Bodies, Exchange
from quorum.gateway.http.openapi import PATH, document_of
from quorum.gateway.http.problems import HttpRefused, problem_json
from quorum.gateway.http.request_log import RequestLog
from quorum.gateway.http.routes import form_of, paths_of
from quorum.gateway.parts import Gateway
from quorum.gateway.tls import Certificates

_KEEP_ALIVE_S = 30
_ENDING_S = 2.0


@asynccontextmanager
async def http_half(gateway: Gateway, address: str) -> AsyncIterator[None]:
    """Serve at an address for the time of a block; then answer what is in flight.

    Args:
        gateway: What both halves share.
        address: ``host:port``.

    Raises:
        RuntimeError: The address is taken.
    """
    settings = gateway.settings
    log = RequestLog(settings.request_log)
    config = uvicorn.Config(
        _application(gateway, log), log_config=None, log_level="error", access_log=False, lifespan="off",
        server_header=False, loop="none", http=connections(settings), ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, int(settings.drain_s)),
        proxy_headers=False,
    )  # fmt: skip
    server = _Server(config, gateway.certificates)
    serving = asyncio.create_task(server.serve([_listen(address)]))
    try:
        await server.listens.wait()
        yield
    finally:
        server.should_exit = True
        await serving
        log.close()


class _Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is skipped: an extra
    """A server of uvicorn that leaves signals to its process, and counts connections before handshakes."""

    def __init__(self, config: uvicorn.Config, certificates: Certificates | None) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self._tls = _current(certificates) if certificates else None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await self.lifespan.startup()

        loop = asyncio.get_running_loop()

        def connect() -> Any:
            connection = self.config.http_protocol_class(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return SecureConnection(loop, connection, self._tls) if self._tls else connection

        self.servers = [
            await loop.create_server(connect, sock=listening, backlog=self.config.backlog)
            for listening in sockets or []
        ]
        self.started = True
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight; what takes too long is ended, before the way to Triton closes."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=_ENDING_S)


def _current(certificates: Certificates) -> ssl.SSLContext:
    """A context whose every handshake is that of the files as they are."""
    first = certificates.context()

    def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        certificates.version()
        if (context := certificates.context()) is not first:
            connection.context = context

    # It is called before certificates are chosen and checked, with or without a name.
    first.sni_callback = choose
    return first


def _application(gateway: Gateway, log: RequestLog) -> Starlette:
    """The application."""
    endpoints = Endpoints(gateway.callers, Bodies(gateway.settings.max_message_bytes), log, gateway.hops)
    paths = paths_of(gateway)
    document = msgspec.json.encode(document_of(paths))

    async def describe(_: Exchange, __: bytes) -> Response:
        return Response(document, media_type="application/json")

    def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = {
            404: f"there is no path {request.url.path[:128]!r}; GET {PATH} lists them",
            405: f"{request.method[:16]} is not taken here; GET {PATH} lists what is",
        }.get(error.status_code, error.detail)
        refusal = HttpRefused(text, status=error.status_code, headers=dict(error.headers or {}))
        return endpoints.refuse(request, refusal, form_of(request.url.path))

    routes = [
        Route(path.path, endpoints.endpoint(path.handler, path.role, path.form), methods=[path.method])
        for path in paths
    ]
    routes.append(Route(PATH, endpoints.endpoint(describe, None, problem_json), methods=["GET"]))
    application = Starlette(routes=routes, exception_handlers={HTTPException: refuse})
    # A path with a slash at its end is another one, not one to be sent elsewhere.
    application.router.redirect_slashes = False
    return application


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By the protocol asyncio knows a socket on which it turns Nagle's algorithm off.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, int(port)))
        listening.listen()
    except OSError as error:
        listening.close()
        raise RuntimeError(f"cannot listen at {address}: {error.strerror}") from error
    return listening
