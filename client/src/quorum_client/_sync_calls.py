# SPDX-License-Identifier: Apache-2.0
"""Send calls, blocking: the part of the client that does not depend on what is asked."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any, Self

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum_client._connection import CANCEL_S, Call, Connection, Result, Unset
from quorum_client._routing import EXTRACTING, Channels
from quorum_client.errors import ChannelNotFound, DeadlineExceeded, QuorumError, Unavailable


class Calls:
    """One connection, and the calls in flight on it."""

    def __init__(self, connection: Connection) -> None:
        """Prepare the connection; it is opened by the first call."""
        self._connection = connection
        url, credentials, options = connection.url, connection.credentials, connection.options
        self._channel: Any = (
            grpc.secure_channel(url, credentials, options)
            if credentials
            else grpc.insecure_channel(url, options)
        )
        self._stub: Any = GRPCInferenceServiceStub(self._channel)
        self._closed = False
        self._in_flight: set[Call[Any]] = set()
        self._cancelling: set[Any] = set()

    def _look(self, timeout_s: float | Unset, channel: str | None, channels: Channels = EXTRACTING) -> float:
        """Fetch the served share where a call needs it first; returns the seconds that it took."""
        look, start = self._connection.first_look(timeout_s, channel, channels), time.perf_counter()
        if look is None:
            return 0.0
        try:
            self._send(look)
        except QuorumError:
            # The call itself reports what is wrong.
            self._connection.share_unknown(channels)
        return time.perf_counter() - start

    def _send(self, call: Call[Result], spent_s: float = 0.0) -> Result:
        """Send a call; cancel it on the server too if it is interrupted."""
        self._in_flight.add(call)
        try:
            return self._attempt(call, spent_s)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._cancel(call)
            raise
        finally:
            self._in_flight.discard(call)

    def _cancel(self, call: Call[Any]) -> None:
        """Ask the server to stop working on a call, and wait for nothing."""
        message = self._connection.cancel_message(call)
        if self._closed or message is None:
            return
        sent = self._stub.ModelInfer.future(message, timeout=CANCEL_S, metadata=self._connection.metadata)
        self._cancelling.add(sent)
        sent.add_done_callback(self._cancelling.discard)

    def _attempt(self, call: Call[Result], spent_s: float) -> Result:
        """Send a call; retry it if no member was asked, use the stable channel if the canary fails."""
        start, sent = time.perf_counter() - spent_s, 0
        left_s = self._connection.left(call, spent_s) if spent_s else call.timeout_s
        while True:
            try:
                sent += 1
                response = self._stub.ModelInfer(
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
            time.sleep(pause_s or 0.0)
            self._check_open()
            left_s = self._connection.left(call, time.perf_counter() - start)

    def is_ready(self, channel: str | None = None) -> bool:
        """Whether the channel can answer now; ``False`` also when no server responds within 5 s.

        Raises:
            ServerError: The server or a proxy refused the question.
        """
        self._check_open()
        name, timeout_s = self._connection.ready_call(channel)
        try:
            response = self._stub.ModelReady(
                pb.ModelReadyRequest(name=name), timeout=timeout_s, metadata=self._connection.metadata
            )
        except grpc.RpcError as error:
            mapped = self._connection.ready_error(error, name, timeout_s)
            if isinstance(mapped, Unavailable | DeadlineExceeded | ChannelNotFound):
                return False
            raise mapped from error
        return bool(response.ready)

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled, on the server too."""
        for call in list(self._in_flight):
            self._cancel(call)
        self._closed = True
        try:
            for sent in list(self._cancelling):
                with contextlib.suppress(grpc.FutureCancelledError):
                    sent.exception()
        finally:
            self._channel.close()

    def __enter__(self) -> Self:
        """Return the client; the end of the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this client is closed; make a new one")
