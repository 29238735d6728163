# SPDX-License-Identifier: Apache-2.0
"""The connection to tritonserver: bytes in, bytes out, and questions wait while the server is restarted."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from quorum_client.errors import DeadlineExceeded, Overloaded, Unavailable
from quorum_contract.errors import take_code
from quorum_contract.foreign import Meaning, meaning_of

SERVICE = "/inference.GRPCInferenceService/"
INFER = "ModelInfer"
Headers = tuple[tuple[str, str], ...]
_RECONNECT_S = 1.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
# Of a caller's time, what its refusal has to reach it: this share, within these seconds.
_REPLY_SHARE, _REPLY_S, _LONGEST_REPLY_S = 0.2, 0.1, 2.0
# Time for requests that cancel questions to arrive.
_CLOSING_S = 1.0
# The whole question is asked again, and members may be paid twice for it.
_MOST_BROKEN = 1
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # Whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
    # A name may have several servers: calls go to those that are connected, in turn.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", int(_RECONNECT_S * 1e3)),
]


class _Failure(Enum):
    REFUSED = "no member was asked: safe to send again"
    BROKE_OFF = "members may have been asked"


class Upstream:
    """Passes calls on to tritonserver; use it with ``async with``.

    It cancels no call, and lets no deadline pass there: Triton 2.51 may crash when either happens in the
    moment in which the answer comes (fixed in later releases: pull requests 7840 and 8078 of its server). A
    caller gets its refusal in time, and what Triton still sends is dropped.

    Args:
        target: ``host:port``, or another name that gRPC resolves, such as ``dns:///name:port``. If it has
            several addresses, calls go to all servers in turn. A call that cancels a question may so reach
            another server than the question did, where it changes nothing.
        max_calls: The most calls at once: also those that wait for the server, and those that go on there
            though their caller has gone.
        wait_s: How long a question may wait for a server that is away.
        longest_s: Time after which Triton has answered whatever it was asked.
    """

    def __init__(self, target: str, max_calls: int, wait_s: float, longest_s: float) -> None:
        self._channel = grpc.aio.insecure_channel(target, _OPTIONS)
        self._most, self._wait_s, self._longest_s, self._inside = max_calls, wait_s, longest_s, 0
        self._sends: dict[str, Any] = {}
        self._unheeded: set[Any] = set()

    def limit(self, max_calls: int, longest_s: float) -> None:
        """Change these limits for the calls to come."""
        self._most, self._longest_s = max_calls, longest_s

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(self, *_: object) -> None:
        end = time.monotonic() + _CLOSING_S
        while self._unheeded and time.monotonic() < end:  # noqa: ASYNC110  (calls have no event)
            await asyncio.sleep(_CLOSING_S / 50)
        await self._channel.close()

    async def call(
        self, method: str, message: bytes, timeout_s: float, *, waits: bool = False, headers: Headers = ()
    ) -> bytes:
        """Send a message and return the answer's bytes.

        Args:
            method: Of Triton's service, such as ``ModelInfer``.
            message: A request of that method.
            timeout_s: The caller's time.
            waits: Send it again while the server is away, within that time and ``wait_s``; once more, too,
                where the call broke off. Only for questions, which change nothing.
            headers: That go with it.

        Raises:
            Overloaded: As many calls as may be are inside already.
            Unavailable: The server is away, and no member was asked.
            DeadlineExceeded: The caller's time is over.
            grpc.aio.AioRpcError: The server's own error.
        """
        if self._inside >= self._most:
            raise Overloaded(f"{self._inside} questions are in flight, the most that are passed on")
        self._inside += 1
        try:
            return await self._attempts(method, message, timeout_s, self._wait_s if waits else 0.0, headers)
        finally:
            self._inside -= 1

    async def look(self, method: str, message: bytes, timeout_s: float) -> bytes:
        """As :meth:`call`, once and without a place, so that a full gateway can ask whether Triton is ready.

        The caller bounds how often it asks.
        """
        return await self._ask(method, message, timeout_s, (), takes_place=False)

    def send_unheeded(self, method: str, message: bytes) -> None:
        """Send a message and wait for nothing."""
        self._leave(self._send(method, message, ()))

    def _send(self, method: str, message: bytes, headers: Headers) -> Any:
        """Send a message; the call, which must be left to itself where it is not waited for."""
        if method not in self._sends:
            self._sends[method] = self._channel.unary_unary(f"{SERVICE}{method}")
        return self._sends[method](message, timeout=self._longest_s, metadata=headers)

    def _leave(self, call: Any, *, takes_place: bool = True) -> None:
        """Let a call go on, in its place; one that nothing refers to would be cancelled."""

        def end(_: Any) -> None:
            self._unheeded.discard(call)
            self._inside -= takes_place

        self._unheeded.add(call)
        self._inside += takes_place
        call.add_done_callback(end)

    async def _ask(
        self, method: str, message: bytes, timeout_s: float, headers: Headers, *, takes_place: bool = True
    ) -> bytes:
        call, loop = self._send(method, message, headers), asyncio.get_running_loop()
        # Whether it was answered. To wait for the call itself would cancel it when the caller goes.
        ended: asyncio.Future[bool] = loop.create_future()
        call.add_done_callback(lambda _: _end(ended, True))
        timer = loop.call_later(timeout_s, _end, ended, False)
        try:
            if await ended:
                answer: bytes = await call
                return answer
        except asyncio.CancelledError:
            self._leave(call, takes_place=takes_place)
            raise
        finally:
            timer.cancel()
        self._leave(call, takes_place=takes_place)
        raise DeadlineExceeded(
            f"no answer within {timeout_s:.3g} s; allow more, or look at the server's load"
        )

    async def _attempts(
        self, method: str, message: bytes, timeout_s: float, wait_s: float, headers: Headers
    ) -> bytes:
        loop = asyncio.get_running_loop()
        began, pause_s, broken = loop.time(), _PAUSE_S, 0
        reply_s = min(max(_REPLY_S, _REPLY_SHARE * timeout_s), _LONGEST_REPLY_S)
        give_up_s = min(wait_s, timeout_s - reply_s)
        left_s = timeout_s
        while True:
            try:
                answer = await self._ask(method, message, left_s, headers)
            except grpc.aio.AioRpcError as error:
                failure = _failure_of(error)
                broken += failure is _Failure.BROKE_OFF
                spent_s = loop.time() - began
                if failure is None or broken > (_MOST_BROKEN if wait_s else 0):
                    raise
                if spent_s + pause_s > give_up_s:
                    if failure is _Failure.BROKE_OFF or take_code(error.details() or "").code:
                        raise
                    raise Unavailable(
                        "the server behind the gateway is away: it starts, or is restarted"
                    ) from error
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                left_s = timeout_s - (loop.time() - began)
                if method == INFER:
                    message = with_timeout(message, left_s)
            else:
                return answer


def _end(waiting: asyncio.Future[bool], is_answered: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_answered)


def with_timeout(message: bytes, seconds: float) -> bytes:
    """A ``ModelInferRequest`` whose members have that time: of two values of a key the last one counts."""
    late = pb.ModelInferRequest()
    late.parameters["timeout"].int64_param = max(1, int(seconds * 1e6))
    raw: bytes = late.SerializeToString()
    return message + raw


def _failure_of(error: grpc.aio.AioRpcError) -> _Failure | None:
    """Whether a call can be sent again; None: it cannot."""
    details, code = take_code(error.details() or "")
    if code is not None:
        return _Failure.REFUSED if code == Unavailable.code else None
    meaning = meaning_of(details)
    if meaning in (Meaning.NO_CONNECTION, Meaning.NOT_READY):
        return _Failure.REFUSED
    if error.code() == grpc.StatusCode.UNAVAILABLE and meaning is None:
        return _Failure.BROKE_OFF
    return None
