# SPDX-License-Identifier: Apache-2.0
"""Send calls from asyncio: the part of the client that does not depend on what is asked."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from quorum_client import _wire
from quorum_client._attempts import Attempts
from quorum_client._call import Call, Result
from quorum_client._connection import CANCEL_S, UNSET, Connection, Unset
from quorum_client._routing import EXTRACTING, Channels
from quorum_client._servers import PROBE_S, Server
from quorum_client.errors import QuorumError, RequestError

if TYPE_CHECKING:
    from typing import Self


class AsyncCalls:
    """The connections to the servers, and the calls in flight on them."""

    def __init__(self, connection: Connection) -> None:
        """Prepare the connections; each is opened by its first call."""
        from quorum_client import _grpc

        self._connection = connection
        self._failure: type[Exception] = _grpc.RpcError
        self._channels: dict[Server, Any] = {}
        self._stubs: dict[Server, Any] = {}
        self._closed = False
        self._in_flight: set[Attempts[Any]] = set()
        # Calls that nothing refers to are cancelled.
        self._cancelling: set[Any] = set()
        self._probing: set[asyncio.Task[None]] = set()

    async def _look(
        self, timeout_s: float | Unset, channel: str | None, channels: Channels = EXTRACTING
    ) -> float:
        """Fetch the served share where a call needs it first; returns the seconds that it took."""
        look, start = self._connection.first_look(timeout_s, channel, channels), time.perf_counter()
        if look is None:
            return 0.0
        try:
            await self._send(look)
        except QuorumError:
            # The call itself reports what is wrong.
            self._connection.share_unknown(channels)
        return time.perf_counter() - start

    async def _send(self, call: Call[Result], spent_s: float = 0.0) -> Result:
        """Send a call, again as long as the retry rule says; cancel it on the server if the task is."""
        attempts = self._connection.attempts(call, spent_s)
        self._in_flight.add(attempts)
        result = None
        try:
            while True:
                ended = await self._attempt(attempts)
                if isinstance(ended, tuple):
                    (result,) = ended
                    return result
                await asyncio.sleep(ended)
                self._open()
        except BaseException as error:
            attempts.failed(error)
            if isinstance(error, asyncio.CancelledError):
                self._cancel(attempts)
            raise
        finally:
            attempts.end_all(result)
            self._in_flight.discard(attempts)

    async def _attempt(self, attempts: Attempts[Result]) -> tuple[Result] | float:
        """Send a call to one server; returns the result, or the seconds until it is sent again."""
        self._probe()
        server, sent, delay_s = attempts.begin(), time.perf_counter(), attempts.hedge_delay_s()
        try:
            if delay_s is None:
                response = await self._ask(attempts, server)
            else:
                server, sent, done = await self._hedged(attempts, server, delay_s)
                response = done.result()
        except self._failure as failure:
            attempts.lost(server, failure)
            return attempts.pause_s()
        return (self._connection.result(attempts, server, response, sent),)

    async def _ask(self, attempts: Attempts[Any], server: Server) -> Any:
        return await self._stubs[server].ModelInfer(
            attempts.call.message, timeout=attempts.left_s(), metadata=attempts.metadata(server)
        )

    async def _hedged(
        self, attempts: Attempts[Any], server: Server, delay_s: float
    ) -> tuple[Server, float, asyncio.Task[Any]]:
        """Send a call to a server, and to a second one too if the first gives no answer in time.

        Returns:
            The server of the call that is used, the time when it was sent to it, and the ended call.
        """
        sent: dict[asyncio.Task[Any], tuple[Server, float]] = {}

        def send(to: Server) -> None:
            sent[asyncio.create_task(self._ask(attempts, to))] = to, time.perf_counter()

        try:
            send(server)
            ended, _ = await asyncio.wait(sent, timeout=delay_s)
            if not ended:
                second = attempts.hedge()
                if second is not None:
                    send(second)
                ended, running = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
                first = next(iter(ended))
                if running and first.exception() is not None:
                    attempts.lost(sent[first][0], first.exception())
                    ended, _ = await asyncio.wait(running)
        except asyncio.CancelledError:
            for task in sent:
                task.cancel()
            raise
        used = min(ended, key=lambda task: task.exception() is not None)
        for task, (other, _) in sent.items():
            if not task.done():
                task.cancel()
                self._cancel_at(other, attempts)
            elif task in ended and task is not used and task.exception() is not None:
                attempts.lost(other, task.exception())
        return (*sent[used], used)

    def _probe(self) -> None:
        """Ask servers that were away whether they are ready, and wait for nothing."""
        for server in self._connection.servers.due():
            task = asyncio.create_task(self._ask_ready(server))
            self._probing.add(task)
            task.add_done_callback(self._probing.discard)

    async def _ask_ready(self, server: Server) -> None:
        ready = False
        try:
            response = await self._stubs[server].ModelReady(
                _wire.ready_request(server.channel), timeout=PROBE_S, metadata=self._connection.metadata
            )
            ready = response.ready
        except self._failure:
            pass
        finally:
            self._connection.servers.probed(server, ready=ready)

    def _cancel(self, attempts: Attempts[Any]) -> None:
        """Ask the servers to stop working on a call, and wait for nothing."""
        for server in attempts.asking:
            self._cancel_at(server, attempts)

    def _cancel_at(self, server: Server, attempts: Attempts[Any]) -> None:
        message = attempts.cancel_message()
        if self._closed or message is None:
            return
        metadata = self._connection.metadata
        sent = self._stubs[server].ModelInfer(message, timeout=CANCEL_S, metadata=metadata)
        self._cancelling.add(sent)
        sent.add_done_callback(self._cancelling.discard)

    async def is_ready(self, channel: str | None = None, *, timeout_s: float | Unset = UNSET) -> bool:
        """Whether the channel can answer now, of any server; ``False`` also when none responds in time.

        All servers are asked at once.

        Args:
            channel: Ensemble to ask about, by default the client's.
            timeout_s: Seconds for the answer; by default 5, or the client's ``timeout_s`` where that is less.

        Raises:
            InvalidRequest: An argument cannot be.
            ServerError: None is ready, and a server or a proxy refused the question.
        """
        self._open()
        name, seconds = self._connection.ready_call(channel, timeout_s)
        asked = [asyncio.create_task(self._is_ready(server, name, seconds)) for server in self._stubs]
        refusal: RequestError | None = None
        try:
            for done in asyncio.as_completed(asked):
                found = await done
                if found is True:
                    return True
                refusal = refusal or found or None
        finally:
            for task in asked:
                task.cancel()
        if refusal:
            raise refusal
        return False

    async def _is_ready(self, server: Server, channel: str, timeout_s: float) -> bool | RequestError:
        """Ask one server; returns the error of one that refused the question."""
        try:
            response = await self._stubs[server].ModelReady(
                _wire.ready_request(channel), timeout=timeout_s, metadata=self._connection.metadata
            )
        except self._failure as failure:
            return self._connection.ready_refusal(failure, server, channel, timeout_s) or False
        return bool(response.ready)

    async def close(self) -> None:
        """Close the connections; calls in flight are cancelled, on the servers too."""
        for attempts in self._in_flight:
            self._cancel(attempts)
        self._closed = True
        try:
            await asyncio.gather(*self._cancelling, return_exceptions=True)
        finally:
            for task in self._probing:
                task.cancel()
            for channel in self._channels.values():
                await channel.close()

    async def __aenter__(self) -> Self:
        """Return the client; the end of the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def _open(self) -> None:
        """Make the connections, which belong to the event loop of the first call."""
        if self._closed:
            raise RuntimeError("this client is closed; make a new one")
        if self._stubs:
            return
        from quorum_client import _grpc

        credentials, options = self._connection.credentials, self._connection.options
        for server in self._connection.servers.all:
            channel = (
                _grpc.aio.secure_channel(server.url, credentials, options)
                if credentials
                else _grpc.aio.insecure_channel(server.url, options)
            )
            self._channels[server] = channel
            self._stubs[server] = _grpc.GRPCInferenceServiceStub(channel)
