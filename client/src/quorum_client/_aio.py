# SPDX-License-Identifier: Apache-2.0
"""Call a quorum deployment from asyncio: the methods of :class:`quorum_client.Client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, overload

from quorum_client._aio_calls import AsyncCalls
from quorum_client._aio_many import as_completed, in_order
from quorum_client._attempts import RetryRule
from quorum_client._connection import UNSET, Connection, Unset
from quorum_client._hedging import Hedge
from quorum_client._limits import AUTO, Concurrency
from quorum_client._results import Extraction, Item, Recommendation, RecommendItem
from quorum_client._room import AWAY_S, OnWait
from quorum_client._routing import RECOMMENDING, Share, extracting
from quorum_client._tls import Tls
from quorum_client.errors import QuorumError
from quorum_contract import BULK, INTERACTIVE, STABLE, Priority


class AsyncClient(AsyncCalls):
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
        wait_for_ready: As there.
        resend: As there.
        hedge_s: As there.
        hedge_share: As there.
        traces: As there.

    Raises:
        InvalidRequest: A setting cannot work.
    """

    def __init__(
        self,
        url: str | Sequence[str] = "localhost:8001",
        *,
        channel: str = STABLE,
        timeout_s: float = 30.0,
        tls: bool | Tls = False,
        headers: Mapping[str, str] | None = None,
        retries: bool = True,
        canary_share: Share | None = None,
        key: str | None = None,
        wait_for_ready: bool = False,
        resend: bool = False,
        hedge_s: Hedge | None = None,
        hedge_share: float = 0.05,
        traces: bool = False,
    ) -> None:
        """Prepare the connections; each is opened by its first call."""
        retry, hedge = RetryRule(retries, wait_for_ready, resend), (hedge_s, hedge_share)
        super().__init__(
            Connection(url, channel, timeout_s, tls, headers, retry, canary_share, key, *hedge, traces)
        )

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
        lazy: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Extraction:
        """Ask for the attributes of one product; arguments as for :meth:`quorum_client.Client.extract`.

        If the task is cancelled, the server is asked to stop working on the product.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        self._open()
        spent_s = await self._look(timeout_s, channel, extracting(lazy))
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
            lazy,
            headers,
        )
        return await self._send(call, spent_s)

    @overload
    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: Concurrency = ...,
        errors: Literal["raise"] = ...,
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
        lazy: bool = ...,
    ) -> AsyncIterator[Extraction]: ...
    @overload
    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: Concurrency = ...,
        errors: Literal["return"],
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
        lazy: bool = ...,
    ) -> AsyncIterator[Extraction | QuorumError]: ...

    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: Concurrency = 16,
        errors: Literal["raise", "return"] = "raise",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        priority: Priority = BULK,
        away_s: float = AWAY_S,
        on_wait: OnWait | None = None,
        lazy: bool = False,
    ) -> AsyncIterator[Extraction | QuorumError]:
        """Ask about many products, several at a time; results come in the order of ``items``.

        Args:
            items: The products, read only as far as needed.
            concurrency: The most calls in flight, or ``"auto"``, see there.
            errors: ``"raise"`` stops at the first failed item, ``"return"`` yields its error in its place.
            timeout_s: Deadline of each call, seconds.
            channel: Ensemble to ask.
            priority: As for :meth:`quorum_client.Client.extract_many`.
            away_s: As there.
            on_wait: As there, from the event loop.
            lazy: As there.

        Raises:
            QuorumError: As :meth:`extract`, with ``errors="raise"``.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        send = self._sender(timeout_s, channel, priority, lazy)
        return in_order(items, room, send, keep_errors=errors == "return")

    def extract_as_completed(
        self,
        items: Iterable[Item],
        *,
        concurrency: Concurrency = AUTO,
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        priority: Priority = BULK,
        away_s: float = AWAY_S,
        on_wait: OnWait | None = None,
        lazy: bool = False,
    ) -> AsyncIterator[tuple[Item, Extraction | QuorumError]]:
        """Ask about many products, several at a time; yields each with its answer or error, as they come.

        The arguments are as for :meth:`quorum_client.Client.extract_as_completed`.

        Raises:
            InvalidRequest: An argument cannot be; what fails of a product is yielded.
            RuntimeError: The client is closed.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        return as_completed(items, room, self._sender(timeout_s, channel, priority, lazy))

    def _sender(
        self, timeout_s: float | Unset, channel: str | None, priority: Priority, lazy: bool
    ) -> Callable[[Item], Awaitable[Extraction]]:
        """A function that sends one product of a run."""
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
                lazy=lazy,
            )

        return send

    async def recommend(
        self,
        text: str,
        k: int = 20,
        category: str = "",
        min_score: float | None = None,
        *,
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        request_id: str | None = None,
        item_id: str | None = None,
        priority: Priority = INTERACTIVE,
        headers: Mapping[str, str] | None = None,
    ) -> Recommendation:
        """Ask for keyphrases for one item; arguments as for :meth:`quorum_client.Client.recommend`.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        item = RecommendItem(text, category, k, min_score, item_id)
        return await self._recommend(item, timeout_s, channel, request_id, priority, headers)

    async def _recommend(
        self,
        item: RecommendItem,
        timeout_s: float | Unset,
        channel: str | None,
        request_id: str | None,
        priority: Priority,
        headers: Mapping[str, str] | None = None,
    ) -> Recommendation:
        self._open()
        spent_s = await self._look(timeout_s, channel, RECOMMENDING)
        call = self._connection.recommend_call(item, timeout_s, channel, request_id, priority, headers)
        return await self._send(call, spent_s)

    @overload
    def recommend_many(
        self,
        items: Iterable[RecommendItem],
        *,
        concurrency: Concurrency = ...,
        errors: Literal["raise"] = ...,
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
    ) -> AsyncIterator[Recommendation]: ...
    @overload
    def recommend_many(
        self,
        items: Iterable[RecommendItem],
        *,
        concurrency: Concurrency = ...,
        errors: Literal["return"],
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
        priority: Priority = ...,
        away_s: float = ...,
        on_wait: OnWait | None = ...,
    ) -> AsyncIterator[Recommendation | QuorumError]: ...

    def recommend_many(
        self,
        items: Iterable[RecommendItem],
        *,
        concurrency: Concurrency = 16,
        errors: Literal["raise", "return"] = "raise",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        priority: Priority = BULK,
        away_s: float = AWAY_S,
        on_wait: OnWait | None = None,
    ) -> AsyncIterator[Recommendation | QuorumError]:
        """Ask for keyphrases for many items; arguments as for :meth:`extract_many`.

        Raises:
            QuorumError: As :meth:`recommend`, with ``errors="raise"``.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        self._open()

        async def send(item: RecommendItem) -> Recommendation:
            return await self._recommend(item, timeout_s, channel, None, priority)

        return in_order(items, room, send, keep_errors=errors == "return")
