# SPDX-License-Identifier: Apache-2.0
"""Call a quorum deployment, blocking."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, overload

from quorum_client._attempts import RetryRule
from quorum_client._connection import UNSET, Connection, Unset
from quorum_client._hedging import Hedge
from quorum_client._limits import AUTO, Concurrency
from quorum_client._results import Extraction, Item, Recommendation, RecommendItem
from quorum_client._room import AWAY_S, OnWait
from quorum_client._routing import RECOMMENDING, Share, extracting
from quorum_client._sync_calls import Calls
from quorum_client._sync_many import as_completed, in_order
from quorum_client._tls import Tls
from quorum_client.errors import QuorumError
from quorum_contract import BULK, INTERACTIVE, STABLE, Priority


class Client(Calls):
    """Blocking client of a quorum deployment; safe to share between threads, one per process is enough.

    Args:
        url: ``host:port`` of the gRPC endpoint, or any other gRPC target (``dns:///...``, ``unix:...``). Of
            several servers, in a sequence or as ``"a:8001,b:8001"``, a call goes to the one with the fewest
            calls of this client; one that is away or fails is left alone, and asked now and then whether it
            is ready.
        channel: Ensemble to ask: ``"quorum"`` (stable), ``"quorum_canary"``, or another of the deployment.
        timeout_s: Default deadline of a call, seconds.
        tls: ``True`` for TLS with the system's authorities, or :class:`Tls` with files; ``False`` for none.
        headers: Sent with every call, for gateways that require a key.
        retries: Send again, within the deadline, if no member was asked: the server is full, not ready or
            unreachable. Each other server is asked at once; after that, 0.1 s to 0.4 s later and up to twice,
            all that are full, or one where none is ready.
        canary_share: Share of the products, from 0 to 1, that the canary channel answers; ``"served"``: the
            share that the server reports (``quorum canary N --share 5%``), looked up before the first call
            and kept current by every answer. A product always takes the same channel, see
            :func:`quorum_client.takes_canary`. A canary that is missing or fails is replaced by the stable
            channel, and the result says so. A call that names a channel is not routed.
        key: The server's inference key, sent with every call; ``None`` for a server without one. Without
            TLS it can be read on the way.
        wait_for_ready: Go on until the deadline while no server is ready, as while the only one is started
            again.
        resend: Send again, up to twice, a call under which the connection broke, and to another server one
            that the server failed. By default they raise :class:`quorum_client.Disconnected` and
            :class:`quorum_client.ServerError`, because members may have been asked: sent again, they may be
            asked, and paid, twice. The answer is the same.
        hedge_s: Send a call to a second server too after so many seconds without an answer, or with ``"p95"``
            after the time within which 95 % of the last 200 calls were answered; the first answer is used,
            and the other server is asked to stop. Calls of bulk are not hedged.
        hedge_share: The most calls that are hedged, as a share.
        traces: Record a span of OpenTelemetry for each call, and one for each request to a server, whose
            ``traceparent`` the server goes on from. Needs the extra ``otel``; spans go where the process's
            tracer provider sends them.

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

    def extract(
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
        """Ask for the attributes of one product.

        If it is interrupted (``KeyboardInterrupt``), the server is asked to stop working on the product.

        Args:
            text: Title and description; at most 32 768 bytes as UTF-8, not only white space. For attributes
                with ``fields`` a mapping of them, such as ``{"query": ..., "title": ...}``.
            attributes: 1 to 64 different names, at most 128 bytes each.
            category: Product category, at most 256 bytes; may be empty.
            timeout_s: Deadline of this call, seconds.
            channel: Ensemble to ask this time.
            request_id: Id of the request in logs and traces; generated by default.
            members_timeout_s: Members that have not answered after so many seconds abstain, and the others
                decide; by default a little before the deadline. With 0 no member is asked: a sign of life.
            product_id: Identifier of the product: with ``canary_share`` it decides the channel; the text does
                when it is not given.
            priority: ``"bulk"`` for one of many that can wait: the server admits it only while fewer than
                ``gate.max_bulk_in_flight`` requests are inside, and one that it refuses as overloaded is not
                sent again; :meth:`extract_many` does that.
            lazy: Ask members in rows, and later ones only while they can still change a value: fewer calls of
                members, from the channel ``quorum_lazy``, or its canary, and the same values, unless
                ``deploy.yaml`` allows others. Votes of members that were not asked are
                ``Status.NOT_ASKED``. Without a ``channel``.
            headers: Sent with this call, with those of the client, such as ``traceparent`` of W3C Trace
                Context.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        self._check_open()
        spent_s = self._look(timeout_s, channel, extracting(lazy))
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
        return self._send(call, spent_s)

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
    ) -> Iterator[Extraction]: ...
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
    ) -> Iterator[Extraction | QuorumError]: ...

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
    ) -> Iterator[Extraction | QuorumError]:
        """Ask about many products, several at a time; results come in the order of ``items``.

        No call starts before the results are iterated, and ``items`` is read only a little ahead, so it
        need not fit into memory. When they are iterated no further (``close`` of the generator, an error),
        the server is asked to stop working on the products in flight.

        Args:
            items: The products.
            concurrency: The most calls in flight; ``"auto"``: as many as the server answers best. It starts
                with 8, goes up while that gives more answers per second, and down where fewer in flight
                give as many, or the server refuses some.
            errors: ``"raise"`` stops at the first failed item, ``"return"`` yields its error in its place.
            timeout_s: Deadline of each call, seconds.
            channel: Ensemble to ask.
            priority: ``"bulk"``: the server admits the products while few other requests are inside, and
                a product that it refuses waits, for as long as it takes, before its ``timeout_s`` begins;
                ``"interactive"``: as :meth:`extract`.
            away_s: How long a bulk run waits for a server that is away, in seconds, as while it is started
                again; after that its products fail until one is answered. A call that broke off is not sent
                again, as members may have been asked. Without ``retries`` of the client nothing waits.
            on_wait: Called with the reason, :class:`quorum_client.Overloaded` or another ``Unavailable``,
                each time that the run has no call in flight and waits, and with ``None`` when it goes on;
                from any thread.
            lazy: As :meth:`extract`.

        Raises:
            QuorumError: As :meth:`extract`, with ``errors="raise"``.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        send, cancel = self._sender(timeout_s, channel, priority, lazy)
        return in_order(items, room, send, cancel, keep_errors=errors == "return")

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
    ) -> Iterator[tuple[Item, Extraction | QuorumError]]:
        """Ask about many products, several at a time; yields each with its answer or error, as they come.

        ``items`` is read only as far as needed: products that are being asked, and answers that are not read
        yet, are at most twice as many as calls in flight. The end of the iteration cancels as that of
        :meth:`extract_many`, and the other arguments are as there.

        Args:
            items: The products.
            concurrency: The most calls in flight; ``"auto"``: as many as the server answers best.
            timeout_s: Deadline of each call, seconds.
            channel: Ensemble to ask.
            priority: ``"bulk"`` or ``"interactive"``.
            away_s: How long a bulk run waits for a server that is away, seconds.
            on_wait: Called when the run waits, and when it goes on.
            lazy: As :meth:`extract`.

        Raises:
            InvalidRequest: An argument cannot be; what fails of a product is yielded.
            RuntimeError: The client is closed.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        return as_completed(items, room, *self._sender(timeout_s, channel, priority, lazy))

    def _sender(
        self, timeout_s: float | Unset, channel: str | None, priority: Priority, lazy: bool
    ) -> tuple[Callable[[Item], Extraction], Callable[[], None]]:
        """A function that sends one product of a run, and one that cancels what is in flight of it."""
        self._check_open()
        run: set[str] = set()

        def send(item: Item) -> Extraction:
            request_id = uuid.uuid4().hex
            run.add(request_id)
            try:
                return self.extract(
                    item.text,
                    item.attributes,
                    category=item.category,
                    timeout_s=timeout_s,
                    channel=channel,
                    request_id=request_id,
                    product_id=item.product_id,
                    priority=priority,
                    lazy=lazy,
                )
            finally:
                run.discard(request_id)

        def cancel() -> None:
            for attempts in list(self._in_flight):
                if attempts.call.request_id in run:
                    self._cancel(attempts)

        tracer = self._connection.tracer
        return (tracer.carried(send) if tracer else send), cancel

    def recommend(
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
        """Ask for keyphrases for one item.

        Args:
            text: Title and description; at most 32 768 bytes as UTF-8, not only white space.
            k: How many are wanted, 1 to 100.
            category: The item's leaf category: only keyphrases of it, or of none, are recommended; "": all.
            min_score: The lowest score of one, from -1 to 1; ``None``: any.
            timeout_s: Deadline of this call, seconds.
            channel: Ensemble to ask this time, by default ``"quorum_recommend"``; the client's ``channel`` is
                for attributes.
            request_id: Id of the request in logs and traces; generated by default.
            item_id: Identifier of the item: with ``canary_share`` it decides the channel; the text does when
                it is not given.
            priority: As for :meth:`extract`.
            headers: As for :meth:`extract`.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        item = RecommendItem(text, category, k, min_score, item_id)
        return self._recommend(item, timeout_s, channel, request_id, priority, headers)

    def _recommend(
        self,
        item: RecommendItem,
        timeout_s: float | Unset,
        channel: str | None,
        request_id: str | None,
        priority: Priority,
        headers: Mapping[str, str] | None = None,
    ) -> Recommendation:
        self._check_open()
        spent_s = self._look(timeout_s, channel, RECOMMENDING)
        call = self._connection.recommend_call(item, timeout_s, channel, request_id, priority, headers)
        return self._send(call, spent_s)

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
    ) -> Iterator[Recommendation]: ...
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
    ) -> Iterator[Recommendation | QuorumError]: ...

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
    ) -> Iterator[Recommendation | QuorumError]:
        """Ask for keyphrases for many items, several at a time; results come in the order of ``items``.

        All arguments but ``items`` are as for :meth:`extract_many`.

        Raises:
            QuorumError: As :meth:`recommend`, with ``errors="raise"``.
        """
        room = self._connection.room(concurrency, priority, away_s, on_wait, timeout_s)
        self._check_open()

        def send(item: RecommendItem) -> Recommendation:
            return self._recommend(item, timeout_s, channel, None, priority)

        return in_order(items, room, send, lambda: None, keep_errors=errors == "return")
