# SPDX-License-Identifier: Apache-2.0
"""Send calls from asyncio: the part of the client that does not depend on what is asked."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum_client._connection import CANCEL_S, Call, Connection, Result, Unset
from quorum_client._routing import EXTRACTING, Channels
from quorum_client.errors import ChannelNotFound, DeadlineExceeded, QuorumError, Unavailable


class AsyncCalls:
    """One connection, and the calls in flight on it."""

    def __init__(self, connection: Connection) -> None:
        """Prepare the connection; it is opened by the first call."""
        self._connection = connection
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False
        self._in_flight: set[Call[Any]] = set()
        self._cancelling: set[Any] = set()

    async def _look(
        self, stub: Any, timeout_s: float | Unset, channel: str | None, channels: Channels = EXTRACTING
    ) -> float:
        """Fetch the served share where a call needs it first; returns the seconds that it took."""
        look, start = self._connection.first_look(timeout_s, channel, channels), time.perf_counter()
        if look is None:
            return 0.0
        try:
            await self._send(stub, look)
        except QuorumError:
            # The call itself reports what is wrong.
            self._connection.share_unknown(channels)
        return time.perf_counter() - start

    async def _send(self, stub: Any, call: Call[Result], spent_s: float = 0.0) -> Result:
        """Send a call; cancel it on the server too if the task is cancelled."""
        self._in_flight.add(call)
        try:
            return await self._attempt(stub, call, spent_s)
        except asyncio.CancelledError:
            self._cancel(call)
            raise
        finally:
            self._in_flight.discard(call)

    def _cancel(self, call: Call[Any]) -> None:
        """Ask the server to stop working on a call, and wait for nothing."""
        message = self._connection.cancel_message(call)
        if self._closed or message is None:
            return
        sent = self._stub.ModelInfer(message, timeout=CANCEL_S, metadata=self._connection.metadata)
        # A call that nothing refers to is cancelled.
        self._cancelling.add(sent)
        sent.add_done_callback(self._cancelling.discard)

    async def _attempt(self, stub: Any, call: Call[Result], spent_s: float) -> Result:
        """Send a call; retry it if no member was asked, use the stable channel if the canary fails."""
        start, sent = time.perf_counter() - spent_s, 0
        left_s = self._connection.left(call, spent_s) if spent_s else call.timeout_s
        while True:
            try:
                sent += 1
                response = await stub.ModelInfer(
                    call.message, timeout=left_s, metadata=self._connection.metadata
                )
                return self._connection.result(response, call, time.perf_counter() - start)
            except grpc.RpcError as error:
                failed, spent_s = self._connection.error(error, call), time.perf_counter() - start
                pause_s = self._connection.retry_pause(call, failed, sent, spent_s)
                if pause_s is None:
                    stable_call = self._connection.fallback(call, failed, spent_s)
                    if stable_call is None:
                        raise failed from error
                    call, sent = stable_call, 0
            await asyncio.sleep(pause_s or 0.0)
            self._open()
            left_s = self._connection.left(call, time.perf_counter() - start)

    async def is_ready(self, channel: str | None = None) -> bool:
        """Whether the channel can answer now; ``False`` also when no server responds within 5 s.

        Raises:
            ServerError: The server or a proxy refused the question.
        """
        stub = self._open()
        name, timeout_s = self._connection.ready_call(channel)
        try:
            response = await stub.ModelReady(
                pb.ModelReadyRequest(name=name), timeout=timeout_s, metadata=self._connection.metadata
            )
        except grpc.RpcError as error:
            mapped = self._connection.ready_error(error, name, timeout_s)
            if isinstance(mapped, Unavailable | DeadlineExceeded | ChannelNotFound):
                return False
            raise mapped from error
        return bool(response.ready)

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled, on the server too."""
        for call in self._in_flight:
            self._cancel(call)
        self._closed = True
        if self._channel is None:
            return
        try:
            await asyncio.gather(*self._cancelling, return_exceptions=True)
        finally:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        """Return the client; the end of the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def _open(self) -> Any:
        if self._closed:
            raise RuntimeError("this client is closed; make a new one")
        if self._stub is None:
            url, credentials, options = (
                self._connection.url,
                self._connection.credentials,
                self._connection.options,
            )
            self._channel = (
                grpc.aio.secure_channel(url, credentials, options)
                if credentials
                else grpc.aio.insecure_channel(url, options)
            )
            self._stub = GRPCInferenceServiceStub(self._channel)
        return self._stub
