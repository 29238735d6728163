# SPDX-License-Identifier: Apache-2.0
"""Call a quorum deployment from asyncio: the methods of :class:`quorum_client.Client`, awaited."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum_client._connection import CANCEL_S, UNSET, Call, Connection, Tls, Unset, window
from quorum_client._results import Extraction, Item
from quorum_client._room import AWAY_S, OnWait, Room
from quorum_client._routing import Share
from quorum_client.errors import ChannelNotFound, DeadlineExceeded, QuorumError, Unavailable
from quorum_contract import BULK, INTERACTIVE, STABLE, Priority


class AsyncClient:
    """Client of a quorum deployment for asyncio; bound to the event loop of its first call.

    Args:
        url: As for :class:`quorum_client.Client`, like all other arguments.
        channel: Ensemble to ask.
        timeout_s: Default deadline of a call, seconds.
        tls: ``True``, :class:`Tls` or ``False``.
        headers: Sent with every call.
        retries: Send again when the server is full or unreachable; see :class:`quorum_client.Client`.
        canary_share: As for :class:`quorum_client.Client`.
        key: The server's inference key.

    Raises:
        InvalidRequest: A setting cannot work.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        channel: str = STABLE,
        timeout_s: float = 30.0,
        tls: bool | Tls = False,
        headers: Mapping[str, str] | None = None,
        retries: bool = True,
        canary_share: Share | None = None,
        key: str | None = None,
    ) -> None:
        """Prepare the connection; it is opened by the first call."""
        self._connection = Connection(url, channel, timeout_s, tls, headers, retries, canary_share, key)
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False
        self._in_flight: set[Call] = set()
        self._cancelling: set[Any] = set()

    async def extract(
        self,
        text: str | Mapping[str, str],
        attributes: Sequence[str],
        *,
        category: str = "",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        request_id: str | None = None,
        members_timeout_s: float | None = None,
        product_id: str | None = None,
        priority: Priority = INTERACTIVE,
    ) -> Extraction:
        """Ask for the attributes of one product; arguments as for :meth:`quorum_client.Client.extract`.

        If the task is cancelled, the server is asked to stop working on the product.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        stub = self._open()
        look, start = self._connection.first_look(timeout_s, channel), time.perf_counter()
        if look is not None:
            try:
                await self._send(stub, look)
            except QuorumError:
                # The call itself reports what is wrong.
                self._connection.share_unknown()
        call = self._connection.call(
            text,
            attributes,
            category,
            timeout_s,
            channel,
            request_id,
            members_timeout_s,
            product_id,
            priority,
        )
        return await self._send(stub, call, time.perf_counter() - start if look else 0.0)

    async def _send(self, stub: Any, call: Call, spent_s: float = 0.0) -> Extraction:
        """Send a call; cancel it on the server too if the task is cancelled."""
        self._in_flight.add(call)
        try:
            return await self._attempt(stub, call, spent_s)
        except asyncio.CancelledError:
            self._cancel(call)
            raise
        finally:
            self._in_flight.discard(call)

    def _cancel(self, call: Call) -> None:
        """Ask the server to stop working on a call, and wait for nothing."""
        message = self._connection.cancel_message(call)
        if self._closed or message is None:
            return
        sent = self._stub.ModelInfer(message, timeout=CANCEL_S, metadata=self._connection.metadata)
        # A call that nothing refers to is cancelled.
        self._cancelling.add(sent)
        sent.add_done_callback(self._cancelling.discard)

    async def _attempt(self, stub: Any, call: Call, spent_s: float) -> Extraction:
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

    @overload
    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = ...,
        errors: Literal["raise"] = ...,
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
    ) -> AsyncIterator[Extraction]: ...
    @overload
    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = ...,
        errors: Literal["return"],
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
    ) -> AsyncIterator[Extraction | QuorumError]: ...

    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 16,
        errors: Literal["raise", "return"] = "raise",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        priority: Priority = BULK,
        away_s: float = AWAY_S,
        on_wait: OnWait | None = None,
    ) -> AsyncIterator[Extraction | QuorumError]:
        """Ask about many products, several at a time; results come in the order of ``items``.

        Args:
            items: The products, read only as far as needed.
            concurrency: The most calls in flight.
            errors: ``"raise"`` stops at the first failed item, ``"return"`` yields its error in its place.
            timeout_s: Deadline of each call, seconds.
            channel: Ensemble to ask.
            priority: As for :meth:`quorum_client.Client.extract_many`.
            away_s: As there.
            on_wait: As there, from the event loop.

        Raises:
            QuorumError: As :meth:`extract`, with ``errors="raise"``.
        """
        limit = window(concurrency)
        room = Room(concurrency, self._connection.away_s(priority, away_s), on_wait)
        self._open()

        async def send(item: Item) -> Extraction:
            return await self.extract(
                item.text,
                item.attributes,
                category=item.category,
                timeout_s=timeout_s,
                channel=channel,
                product_id=item.product_id,
                priority=priority,
            )

        return self._many(iter(items), limit, room, send, keep_errors=errors == "return")

    async def _many(
        self,
        items: Iterator[Item],
        limit: int,
        room: Room,
        send: Callable[[Item], Awaitable[Extraction]],
        *,
        keep_errors: bool,
    ) -> AsyncIterator[Extraction | QuorumError]:
        async def ask(number: int, item: Item) -> Extraction | QuorumError:
            try:
                return await _send_when_room(send, item, number, room)
            except QuorumError as error:
                if keep_errors:
                    return error
                raise

        pending: deque[asyncio.Task[Extraction | QuorumError]] = deque()
        try:
            for number, item in enumerate(items):
                pending.append(asyncio.create_task(ask(number, item)))
                while len(pending) >= limit or (pending and pending[0].done()):
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

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


async def _send_when_room(
    send: Callable[[Item], Awaitable[Extraction]], item: Item, number: int, room: Room
) -> Extraction:
    """Send an item once the run has room for it, again as long as the room postpones it."""
    place = asyncio.Event()
    room.ask(number, place.set)
    while True:
        await place.wait()
        place.clear()
        try:
            result = await send(item)
        except BaseException as error:
            if not (isinstance(error, Unavailable) and room.postpones(error)):
                room.leave(answered=False, error=error)
                raise
            pause_s = room.refused(number, place.set, error)
        else:
            room.leave(answered=True)
            return result
        if pause_s is not None:
            await asyncio.sleep(pause_s)
            place.set()
