# SPDX-License-Identifier: Apache-2.0
"""The gRPC half: a relay that checks who asks and what, and passes bytes on.

It checks the key before it reads a message, and refuses what the contract does not have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.asking import Asking, Question
from quorum.gateway.health import CHECK
from quorum.gateway.hops import Hop, Metadata
from quorum.gateway.keys import Caller
from quorum.gateway.parts import Gateway
from quorum.gateway.questions import (
    check_channel,
    check_question,
    text_of,
    with_caller,
    with_id,
    without_trace,
)
from quorum.gateway.room import most_connections
from quorum.gateway.routing import PRODUCT_ID_HEADER
from quorum.gateway.settings import Settings
from quorum.gateway.upstream import INFER, SERVICE, with_timeout
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    QuotaSpent,
    RequestError,
    Unauthenticated,
    Unavailable,
)
from quorum_contract import CANCEL, RECOMMEND_CHANNELS
from quorum_contract.errors import QuorumError, with_code
from quorum_contract.key import KEY_HEADER, RETRY_AFTER, USER_AGENT

_FREE_METHODS = ("ServerLive", "ServerReady", "ServerMetadata")
"""Methods that every caller may call."""
_OF_CHANNELS = {"ModelReady": pb.ModelReadyRequest, "ModelMetadata": pb.ModelMetadataRequest}
MAX_CONNECTIONS = 4096
# Of one connection. A new one may send before it has read the limit, and what is above is refused.
_MAX_STREAMS = 1024
_IDLE_S = 60.0
_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S = 60.0, 20.0
_HANDSHAKE_S = 10.0
_CANCEL_S = 1.0
_ERROR_BYTES = 1024
_TIMEOUT = "timeout"
_STATUS: dict[type[QuorumError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ChannelNotFound: grpc.StatusCode.NOT_FOUND,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    QuotaSpent: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.UNAVAILABLE,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}


class _Asker(NamedTuple):
    """Who calls, and what its headers say of the channel."""

    caller: Caller
    product_id: str | None
    chooses_channel: bool
    headers: Metadata


class Relay(grpc.GenericRpcHandler):
    """Chooses the handler of each call by its metadata, before the message is read."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._upstream, self._asking = gateway.upstream, Asking(gateway)
        self._handlers: dict[str, Callable[..., Any]] = {
            f"{SERVICE}{name}": functools.partial(self._pass, name)
            for name in (*_FREE_METHODS, *_OF_CHANNELS)
        }
        self._handlers[f"{SERVICE}{INFER}"] = self._ask
        self._health: Any = grpc.unary_unary_rpc_method_handler(gateway.health.check)
        names = ", ".join(method.removeprefix(SERVICE) for method in self._handlers)
        self._not_passed = _refuse(
            InvalidRequest(f"only {names} are passed on; administer on the server's own machine"),
            grpc.StatusCode.UNIMPLEMENTED,
        )

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; a refusal never reads the message."""
        method = handler_call_details.method
        if method == CHECK:
            return self._health
        headers: dict[str, list[str | bytes]] = {}
        for name, value in handler_call_details.invocation_metadata:
            headers.setdefault(name, []).append(value)
        keys = headers.get(KEY_HEADER, [])
        try:
            caller = self._gateway.callers.identify(keys[0] if len(keys) == 1 else None)
        except Unauthenticated as error:
            return _refuse(error)
        handler = self._handlers.get(method)
        if handler is None:
            return self._not_passed
        product_id, metadata = _text(headers.get(PRODUCT_ID_HEADER)), handler_call_details.invocation_metadata
        asker = _Asker(caller, product_id, _is_own_client(headers), metadata)
        return grpc.unary_unary_rpc_method_handler(functools.partial(handler, asker))

    async def _pass(self, method: str, _: _Asker, raw: bytes, context: Any) -> bytes:
        """Pass on a question about the server or a channel."""
        try:
            if kind := _OF_CHANNELS.get(method):
                check_channel(kind.FromString(raw).name)
            return await self._upstream.call(method, raw, self._left(context))
        except DecodeError:
            await _abort(context, InvalidRequest("not a message"))
        except RequestError as error:
            await _abort(context, error)
        except grpc.aio.AioRpcError as error:
            await _pass_error(context, error)
        raise AssertionError

    async def _ask(self, asker: _Asker, raw: bytes, context: Any) -> bytes:
        """Check a question, and answer it."""
        try:
            request = pb.ModelInferRequest.FromString(raw)
            check_question(request)
            raw = with_caller(without_trace(raw, request), request, asker.caller.name)
            recommends = request.model_name in RECOMMEND_CHANNELS
            self._gateway.callers.check_role(asker.caller, "recommend" if recommends else "extract")
            if CANCEL in request.parameters:
                return await self._upstream.call(INFER, raw, min(_CANCEL_S, self._left(context)))
            with self._gateway.hops.hop("gateway", asker.headers) as hop:
                hop.set("quorum.request_id", request.id)
                return await self._answer(asker, request, raw, context, hop)
        except DecodeError:
            await _abort(context, InvalidRequest("not a message"))
        except RequestError as error:
            await _abort(context, error)
        except grpc.aio.AioRpcError as error:
            await _pass_error(context, error)
        raise AssertionError

    async def _answer(self, asker: _Asker, request: Any, raw: bytes, context: Any, hop: Hop) -> bytes:
        """Answer a question that is checked."""
        message = raw
        if _TIMEOUT not in request.parameters and context.time_remaining() is not None:
            message = with_timeout(raw, self._left(context))
        product = text_of(request) if asker.product_id is None else asker.product_id
        question = Question(
            asker.caller,
            request.model_name,
            self._left(context),
            None if asker.chooses_channel else product,
            hop,
        )
        return with_id((await self._asking.ask(question, request, message)).raw, request)

    def _left(self, context: Any) -> float:
        """Seconds for a call: the caller's, or the longest that the gate allows."""
        left: float | None = context.time_remaining()
        longest = self._gateway.settings.max_timeout_s
        return longest if left is None else min(left, longest)


def _text(values: list[str | bytes] | None) -> str | None:
    """The only value of a header, as text."""
    if values is None or len(values) != 1:
        return None
    return values[0] if isinstance(values[0], str) else values[0].decode("utf-8", "replace")


def _is_own_client(headers: dict[str, list[str | bytes]]) -> bool:
    """Whether our own client calls, which chooses the channel itself."""
    return (_text(headers.get("user-agent")) or "").startswith(USER_AGENT)


def _refuse(error: QuorumError, status: grpc.StatusCode | None = None) -> Any:
    """A handler that refuses; as one of a stream of messages it reads none."""

    async def handle(_: object, context: Any) -> None:
        await _abort(context, error, status)

    return grpc.stream_unary_rpc_method_handler(handle)


async def _pass_error(context: Any, error: grpc.aio.AioRpcError) -> None:
    """End a call with Triton's own error."""
    await context.abort(error.code(), error.details() or "")


async def _abort(context: Any, error: QuorumError, status: grpc.StatusCode | None = None) -> None:
    """End a call with an error of ours, whose code is at the end of the message."""
    trailing: tuple[tuple[str, str], ...] = ()
    if isinstance(error, QuotaSpent) and error.retry_after_s is not None:
        trailing = ((RETRY_AFTER, str(math.ceil(error.retry_after_s))),)
    code = status or _STATUS.get(type(error), grpc.StatusCode.INTERNAL)
    await context.abort(code, with_code(error, _ERROR_BYTES), trailing)


def _server_options(max_connections: int, settings: Settings) -> list[tuple[str, Any]]:
    return [
        # A port that is taken is an error, not shared.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # The limit counts compressed bytes, and a deflated megabyte can hold a gigabyte: no compression.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Nor may an unread message fill a window that grows with the bandwidth.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", max(_MAX_STREAMS, settings.max_calls)),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.server_handshake_timeout_ms", int(_HANDSHAKE_S * 1e3)),
        ("grpc.max_connection_idle_ms", int(min(_IDLE_S, settings.max_age_s) * 1e3)),
        ("grpc.max_connection_age_ms", int(settings.max_age_s * 1e3)),
        ("grpc.max_connection_age_grace_ms", int(settings.max_timeout_s * 1e3)),
        ("grpc.keepalive_time_ms", int(_KEEPALIVE_S * 1e3)),
        ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


@asynccontextmanager
async def grpc_half(gateway: Gateway, address: str) -> AsyncIterator[None]:
    """Relay at an address for the time of a block; then answer what is in flight.

    Raises:
        RuntimeError: The address is taken.
    """
    settings = gateway.settings
    most = most_connections(settings, MAX_CONNECTIONS)
    server = grpc.aio.server(options=_server_options(most, settings))
    server.add_generic_rpc_handlers((Relay(gateway),))
    if gateway.certificates is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, gateway.certificates.grpc_credentials())
    await server.start()
    try:
        yield
    finally:
        await server.stop(settings.drain_s)
