# SPDX-License-Identifier: Apache-2.0
"""The door: a gRPC relay in front of tritonserver that lets callers with a key ask questions, and no more.

It checks the key before it reads a message, refuses what the contract does not have, and passes bytes on.
:mod:`quorum.server.door_process` runs this module as a program of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from quorum.server.exposure import ExposedError, door_key
from quorum.server.launch import raise_open_files
from quorum_client import cancel_request
from quorum_client.errors import ChannelNotFound, InvalidRequest, Overloaded, Unauthenticated, Unavailable
from quorum_contract import (
    CANCEL,
    CHANNELS,
    LAZY_CHANNELS,
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_CATEGORY_BYTES,
    MAX_TEXT_BYTES,
    PRIORITY,
    RECOMMEND_CHANNELS,
)
from quorum_contract.errors import QuorumError, with_code
from quorum_contract.foreign import Meaning, meaning_of
from quorum_contract.key import KEY_HEADER, key_value

READY = "ready"
_SERVICE = "/inference.GRPCInferenceService/"
# Each element has a length and a tag; ids, names of tensors, shapes and the deadline take the rest.
_ELEMENT_BYTES, _ENVELOPE_BYTES = 8, 4096
MAX_MESSAGE_BYTES = (
    MAX_TEXT_BYTES
    + MAX_CATEGORY_BYTES
    + MAX_ATTRIBUTES * (MAX_ATTRIBUTE_BYTES + _ELEMENT_BYTES)
    + _ENVELOPE_BYTES
)
"""A little more than the largest request of the contract."""
_ERROR_BYTES = 1024
_OPEN = (*CHANNELS, *LAZY_CHANNELS, *RECOMMEND_CHANNELS)
_PARAMETERS = frozenset(["timeout", PRIORITY, CANCEL])
MAX_CONNECTIONS = 4096
_OWN_FILES = 64
# Of one connection. A new one may send before it has read the limit, and what is above is refused.
_MAX_STREAMS = 1024
_IDLE_S = 60.0
_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S = 60.0, 20.0
_HANDSHAKE_S = 10.0
_RECONNECT_S = 1.0
_CANCEL_S = 1.0


class Settings(msgspec.Struct, frozen=True):
    """What a door needs to know; the key comes by the environment.

    Attributes:
        listen: ``host:port`` for callers.
        target: ``host:port`` of tritonserver.
        max_calls: The most questions that are passed on at once.
        max_timeout_s: The longest time of a question; for calls that bring no deadline.
        max_age_s: Connections are closed in order at about this age.
        drain_s: How long questions in flight may take at the end.
    """

    listen: str
    target: str
    max_calls: int
    max_timeout_s: float
    max_age_s: float
    drain_s: float


class Door(grpc.GenericRpcHandler):
    """Chooses the handler of each call by its metadata, before the message is read."""

    def __init__(self, settings: Settings, key: str, channel: grpc.aio.Channel) -> None:
        self._settings = settings
        self._key = key_value(key).encode()
        self._inside = 0
        self._cancelling: set[Any] = set()
        checks: dict[str, Callable[[bytes], None]] = {
            "ServerLive": lambda _: None,
            "ServerReady": lambda _: None,
            "ModelReady": lambda raw: _check_channel(pb.ModelReadyRequest.FromString(raw).name),
            "ModelMetadata": lambda raw: _check_channel(pb.ModelMetadataRequest.FromString(raw).name),
            "ModelInfer": lambda raw: check_question(pb.ModelInferRequest.FromString(raw)),
        }
        self._handlers: dict[str, Any] = {
            f"{_SERVICE}{name}": grpc.unary_unary_rpc_method_handler(
                self._relay(channel.unary_unary(f"{_SERVICE}{name}"), check, is_question=name == "ModelInfer")
            )
            for name, check in checks.items()
        }
        self._refused = _refuse(
            grpc.StatusCode.UNAUTHENTICATED,
            Unauthenticated(f"wrong or missing key; send it as `{KEY_HEADER}: {key_value('KEY')}`"),
        )
        self._not_passed = _refuse(
            grpc.StatusCode.UNIMPLEMENTED,
            InvalidRequest(f"only {', '.join(checks)} are passed on; administer on the server's own machine"),
        )

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; a refusal never reads the message."""
        given = [value for name, value in handler_call_details.invocation_metadata if name == KEY_HEADER]
        sent = given[0] if len(given) == 1 else ""
        if not hmac.compare_digest(sent.encode() if isinstance(sent, str) else sent, self._key):
            return self._refused
        return self._handlers.get(handler_call_details.method, self._not_passed)

    def _relay(
        self, send: Any, check: Callable[[bytes], None], *, is_question: bool
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """A handler that checks a message and passes it on, and cancels a question whose caller goes."""

        async def handle(raw: bytes, context: Any) -> bytes:
            try:
                check(raw)
            except DecodeError:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest("not a message"))
            except ChannelNotFound as error:
                await _abort(context, grpc.StatusCode.NOT_FOUND, error)
            except InvalidRequest as error:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)
            if self._inside >= self._settings.max_calls:
                full = Overloaded(f"{self._inside} questions are in flight, the most that are passed on")
                await _abort(context, grpc.StatusCode.UNAVAILABLE, full)
            self._inside += 1
            try:
                answer: bytes = await send(raw, timeout=self._left(context))
            except asyncio.CancelledError:
                if is_question:
                    self._cancel(send, raw)
                raise
            except grpc.aio.AioRpcError as error:
                await _pass_error(context, error)
                raise
            finally:
                self._inside -= 1
            return answer

        return handle

    def _cancel(self, send: Any, raw: bytes) -> None:
        """Have the server stop working on the question of a caller that has gone, and wait for nothing."""
        message = cancel_of(raw)
        if message is not None:
            sent = send(message, timeout=_CANCEL_S)
            # A call that nothing refers to is cancelled.
            self._cancelling.add(sent)
            sent.add_done_callback(self._cancelling.discard)

    def _left(self, context: Any) -> float:
        """Seconds for a call: the caller's, or the longest that the gate allows."""
        left: float | None = context.time_remaining()
        longest = self._settings.max_timeout_s
        return longest if left is None else min(left, longest)


def cancel_of(raw: bytes) -> bytes | None:
    """The request that cancels a request; ``None`` for one that asks no member or has no id."""
    request = pb.ModelInferRequest.FromString(raw)
    if not request.id or CANCEL in request.parameters or request.model_name in RECOMMEND_CHANNELS:
        return None
    cancel: bytes = cancel_request(request.model_name, request.id).SerializeToString()
    return cancel


def check_question(request: Any) -> None:
    """Refuse what no question of the contract has: other models, parameters that Triton acts on.

    Raises:
        ChannelNotFound: The model is none of the public channels.
        InvalidRequest: A parameter such as ``classification``, or a region of shared memory.
    """
    _check_channel(request.model_name)
    _check_parameters("request", request.parameters, _PARAMETERS)
    for tensor in request.inputs:
        _check_parameters(tensor.name, tensor.parameters, frozenset())
    for output in request.outputs:
        _check_parameters(output.name, output.parameters, frozenset())


def _check_parameters(what: str, given: Any, allowed: frozenset[str]) -> None:
    unknown = sorted(given.keys() - allowed)
    if unknown:
        raise InvalidRequest(
            f"{what[:64]!r}: parameter {unknown[0][:64]!r} is not part of a question; remove it"
        )


def _check_channel(name: str) -> None:
    if name not in _OPEN:
        raise ChannelNotFound(f"{name[:64]!r} is not open to callers; ask {' or '.join(_OPEN)}")


def _refuse(status: grpc.StatusCode, error: QuorumError) -> Any:
    """A handler that refuses; as one of a stream of messages it reads none."""

    async def handle(_: object, context: Any) -> None:
        await _abort(context, status, error)

    return grpc.stream_unary_rpc_method_handler(handle)


async def _abort(context: Any, status: grpc.StatusCode, error: QuorumError) -> None:
    await context.abort(status, with_code(error, _ERROR_BYTES))


async def _pass_error(context: Any, error: grpc.aio.AioRpcError) -> None:
    """Give the caller Triton's error; one that never reached Triton is safe to send again, and says so."""
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE and meaning_of(details) is Meaning.NO_CONNECTION:
        away = Unavailable("the server behind the door is away: it starts, or is restarted")
        await _abort(context, grpc.StatusCode.UNAVAILABLE, away)
    await context.abort(error.code(), details)


def _server_options(max_connections: int, settings: Settings) -> list[tuple[str, Any]]:
    return [
        # A port that is taken is an error, not shared.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # The limit counts compressed bytes, and a deflated megabyte can hold a gigabyte: no compression.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Nor may an unread message fill a window that grows with the bandwidth.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", MAX_MESSAGE_BYTES),
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


_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # The server is on this machine, whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", int(_RECONNECT_S * 1e3)),
]


async def _serve(settings: Settings, key: str, say_ready: Callable[[], None]) -> None:
    """Relay until SIGTERM, or until the process that started this one is gone."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    stdin = sys.stdin.fileno()

    def end_with_parent() -> None:
        # An end of file can be read for ever.
        loop.remove_reader(stdin)
        over.set()

    loop.add_reader(stdin, end_with_parent)
    most = min(MAX_CONNECTIONS, raise_open_files() - _OWN_FILES)
    async with grpc.aio.insecure_channel(settings.target, _CHANNEL_OPTIONS) as channel:
        server = grpc.aio.server(options=_server_options(most, settings))
        server.add_generic_rpc_handlers((Door(settings, key, channel),))
        server.add_insecure_port(settings.listen)
        await server.start()
        say_ready()
        await over.wait()
        await server.stop(settings.drain_s)


def main() -> None:
    """Run a door with the settings in the first argument; a line on standard output says that it listens."""

    def say_ready() -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()

    key = door_key()
    if key is None:
        raise ExposedError("a door needs a key")
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=Settings), key, say_ready))


if __name__ == "__main__":
    main()
