# SPDX-License-Identifier: Apache-2.0
"""The page as a Starlette application: three static files, and three calls on a desk."""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quorum.review.choose import LabelError
from quorum.review.page.desk import Desk
from quorum.review.page.journal import Mode
from quorum.review.web.access import SECURITY_HEADERS, Access, headers_of

STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/review.js": ("review.js", "text/javascript; charset=utf-8"),
    "/review.css": ("review.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_MOST_BYTES = 1 << 16

Handler = Callable[[Request], Awaitable[Response]]


class Who(msgspec.Struct, frozen=True):
    """Who asks, and in which mode."""

    reviewer: str
    mode: Mode = "review"


class Decided(Who, frozen=True, kw_only=True):
    """A decision, as :meth:`quorum.review.page.desk.Desk.decide` takes it."""

    product: str
    attribute: str
    verdict: Literal["answer", "unsure", "skip"]
    chosen: str = ""
    typed: str = ""
    note: str = ""


class Guarded:
    """An application behind :class:`Access`, with the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            return

        refused = self._access.refusal(scope["method"], scope["path"], headers_of(scope["headers"]))
        has_token = refused is None and scope["path"].startswith("/api/")
        # A caller without the token does not keep its connection: there are not many for everybody.
        added = SECURITY_HEADERS if has_token else {**SECURITY_HEADERS, "Connection": "close"}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in added.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if refused is None:
            await self._app(scope, receive, send_guarded)
        else:
            status, reason = refused
            await _json({"error": reason}, status)(scope, receive, send_guarded)


def make_app(desk: Desk, access: Access, changed: Callable[[], None]) -> Guarded:
    """The application.

    Args:
        desk: What it works on.
        access: Who may talk to it.
        changed: Called after each decision and undo.
    """

    async def state(request: Request) -> Response:
        who = msgspec.convert(dict(request.query_params), Who)
        name = who.reviewer or desk.first_reviewer
        return _json(await run_in_threadpool(desk.state, name, who.mode))

    async def decide(request: Request) -> Response:
        own = msgspec.json.decode(await _body(request), type=Decided)
        found = await run_in_threadpool(
            desk.decide, own.reviewer, own.mode, (own.product, own.attribute), own.verdict, chosen=own.chosen,
            typed=own.typed, note=own.note,
        )  # fmt: skip
        changed()
        return _json(found)

    async def undo(request: Request) -> Response:
        who = msgspec.json.decode(await _body(request), type=Who)
        found = await run_in_threadpool(desk.undo, who.reviewer, who.mode)
        changed()
        return _json(found)

    routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/api/state", _friendly(state), methods=["GET"]),
        Route("/api/decide", _friendly(decide), methods=["POST"]),
        Route("/api/undo", _friendly(undo), methods=["POST"]),
    ]
    return Guarded(Starlette(routes=routes), access)


def _file(name: str, media_type: str) -> Handler:
    content = (STATIC / name).read_bytes()

    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


def _friendly(handler: Handler) -> Handler:
    """Answer errors as JSON with the message."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except (LabelError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, 400)
        except OSError as error:
            advice = "make room, then " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            text = f"not kept: {error.filename}: {error.strerror}; {advice}decide again"
            return _json({"error": text}, 507)

    return handle


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise LabelError(f"a decision of more than {_MOST_BYTES} bytes; shorten it")
    return bytes(body)


def _json(content: Any, status: int = 200) -> Response:
    # ASCII: a text may hold half a surrogate pair, which is no UTF-8.
    return Response(json.dumps(content), status, media_type="application/json")
