# SPDX-License-Identifier: Apache-2.0
"""What every endpoint does: check who asks, read the body, answer errors in its form, and log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from quorum.gateway.callers import Callers
from quorum.gateway.hops import Hops
from quorum.gateway.http.exchange import REQUEST_ID_HEADER, Bodies, Exchange, begin
from quorum.gateway.http.problems import Form, GatewayFailed, problem_json
from quorum.gateway.http.request_log import RequestLog
from quorum.gateway.keys import Role
from quorum_client.errors import Unauthenticated, Unavailable
from quorum_contract.errors import QuorumError
from quorum_contract.key import KEY_HEADER

logger = logging.getLogger(__name__)

GONE = 499
"""Status in the log of a request whose caller went before its answer came; it is never sent."""

Handler = Callable[[Exchange, bytes], Awaitable[Response]]
"""Answers a request, whose body is b"" for a GET."""


class Endpoints:
    """Makes Starlette's endpoints of handlers.

    Args:
        callers: Who may ask.
        bodies: Reads bodies.
        log: Of requests.
        hops: Traces of questions.
    """

    def __init__(self, callers: Callers, bodies: Bodies, log: RequestLog, hops: Hops) -> None:
        self._callers, self._bodies, self._log, self._hops = callers, bodies, log, hops

    def endpoint(
        self, handler: Handler, role: Role | None, form: Form = problem_json
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint.

        Args:
            handler: Answers; a :class:`quorum_contract.errors.QuorumError` of it is answered as such.
            role: What its callers may do; None: everyone may, without a key.
            form: Of errors.
        """

        async def answer(request: Request) -> Response:
            exchange = begin(request)
            try:
                response = await self._answer(exchange, handler, role)
            except QuorumError as error:
                response = self._refused(exchange, error, form)
            except ClientDisconnect:
                response = Response(status_code=GONE)
            except asyncio.CancelledError:
                # Only the end of the drain cancels.
                response = self._refused(exchange, Unavailable("the gateway stops; send it again"), form)
            except Exception:
                logger.exception("request %s failed, trace %s", exchange.request_id, exchange.trace_id or "-")
                response = self._refused(exchange, _internal(), form)
            response.headers[REQUEST_ID_HEADER] = exchange.request_id
            self._log.write(exchange, response.status_code)
            return response

        return answer

    def refuse(self, request: Request, error: QuorumError, form: Form) -> Response:
        """Answer a request that no endpoint takes."""
        exchange = begin(request)
        response = self._refused(exchange, error, form)
        response.headers[REQUEST_ID_HEADER] = exchange.request_id
        self._log.write(exchange, response.status_code)
        return response

    async def _answer(self, exchange: Exchange, handler: Handler, role: Role | None) -> Response:
        request = exchange.request
        if role is not None:
            keys = request.headers.getlist(KEY_HEADER)
            if len(keys) > 1:
                raise Unauthenticated(f"{KEY_HEADER} comes {len(keys)} times; send it once")
            # Before the body is read: it may be large.
            exchange.caller = self._callers.identify(keys[0] if keys else None)
            self._callers.check_role(exchange.caller, role)
        if request.method != "POST":
            return await handler(exchange, b"")
        with self._hops.hop("gateway", request.headers.items()) as hop:
            exchange.follow(hop)
            body = await self._bodies.read(request)
            return await _unless_gone(request, handler(exchange, body))

    @staticmethod
    def _refused(exchange: Exchange, error: QuorumError, form: Form) -> Response:
        exchange.code = error.code
        return form(error, exchange.request_id)


def _internal() -> GatewayFailed:
    return GatewayFailed("the gateway failed; its log says more, by the id of the request", status="INTERNAL")


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """Wait for an answer, and stop working on it when its caller goes."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            # It has to be seen to its end: it tells the server.
            await asyncio.wait((working,))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
