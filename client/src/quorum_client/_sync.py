# SPDX-License-Identifier: Apache-2.0
"""The blocking client."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self, overload

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum_client._connection import UNSET, Call, Connection, Tls, Unset, window
from quorum_client._results import Extraction, Item
from quorum_client._routing import Share
from quorum_client.errors import ChannelNotFound, DeadlineExceeded, QuorumError, Unavailable
from quorum_contract import STABLE


class Client:
    """Asks a quorum deployment; safe to share between threads, one per process is enough.

    Args:
        url: ``host:port`` of the gRPC endpoint, or any other gRPC target (``dns:///...``, ``unix:...``).
        channel: Ensemble to ask: ``"quorum"`` (stable), ``"quorum_canary"``, or another of the deployment.
        timeout_s: Deadline of every call, in seconds, unless the call says otherwise.
        tls: ``True`` for TLS with the system's authorities, or :class:`Tls` with files; ``False`` for none.
        headers: Sent with every call, for gateways that want a key.
        retries: Send again, up to twice, 0.1 s to 0.4 s later and within the deadline, when nobody was asked:
            the server is full, not ready or not there. A call under which the connection broke is not sent
            again, because its members may have been asked; see :class:`quorum_client.Disconnected`.
        canary_share: Share of the products, from 0 to 1, that the canary channel answers; ``"served"``: the
            share that the server tells (``quorum canary N --share 5%``), looked up before the first call and
            kept current by every answer. A product always takes the same way, see
            :func:`quorum_client.takes_canary`. A canary that is missing or fails is replaced by the stable
            channel, and the result says so. A call that names a channel is not routed.

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
    ) -> None:
        """Prepare the connection; it is opened by the first call."""
        self._connection = Connection(url, channel, timeout_s, tls, headers, retries, canary_share)
        credentials, options = self._connection.credentials, self._connection.options
        self._channel: Any = (
            grpc.secure_channel(url, credentials, options)
            if credentials
            else grpc.insecure_channel(url, options)
        )
        self._stub: Any = GRPCInferenceServiceStub(self._channel)
        self._closed = False

    def extract(
        self,
        text: str,
        attributes: Sequence[str],
        *,
        category: str = "",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
        request_id: str | None = None,
        members_timeout_s: float | None = None,
        product_id: str | None = None,
    ) -> Extraction:
        """Ask for the attributes of one product.

        Args:
            text: Title and description; at most 32 768 bytes as UTF-8, not only white space.
            attributes: 1 to 64 different names, at most 128 bytes each.
            category: Product category, at most 256 bytes; may be empty.
            timeout_s: Deadline of this call, seconds.
            channel: Ensemble to ask this time.
            request_id: Id to find the request by in logs and traces; made up when not given.
            members_timeout_s: Members that have not answered after so many seconds abstain, and the others
                decide; by default a little before the deadline. With 0 nobody is asked: a sign of life.
            product_id: What the product is known by: with ``canary_share`` it decides the channel, and its
                text does when it is not given.

        Raises:
            QuorumError: One of the tree in :mod:`quorum_client.errors`.
            RuntimeError: The client is closed.
        """
        self._check_open()
        look, start = self._connection.first_look(timeout_s, channel), time.perf_counter()
        if look is not None:
            try:
                self._send(look)
            except QuorumError:
                # Whatever is wrong, the call itself finds out.
                self._connection.share_unknown()
        call = self._connection.call(
            text, attributes, category, timeout_s, channel, request_id, members_timeout_s, product_id
        )
        return self._send(call, time.perf_counter() - start if look else 0.0)

    def _send(self, call: Call, spent_s: float = 0.0) -> Extraction:
        """Send a call, again where nobody was asked, and to the stable channel where the canary fails."""
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
                pause_s = self._connection.again(call, failed, sent, spent_s)
                if pause_s is None:
                    other = self._connection.fallback(call, failed, spent_s)
                    if other is None:
                        raise failed from error
                    call, sent = other, 0
            time.sleep(pause_s or 0.0)
            self._check_open()
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
    ) -> Iterator[Extraction]: ...
    @overload
    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = ...,
        errors: Literal["return"],
        timeout_s: float | Unset = ...,
        channel: str | None = ...,
    ) -> Iterator[Extraction | QuorumError]: ...

    def extract_many(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 16,
        errors: Literal["raise", "return"] = "raise",
        timeout_s: float | Unset = UNSET,
        channel: str | None = None,
    ) -> Iterator[Extraction | QuorumError]:
        """Ask about many products, several at a time; results come in the order of ``items``.

        Nothing is asked until the results are iterated, and ``items`` is read only a little ahead, so it
        may be longer than memory.

        Args:
            items: The products.
            concurrency: How many calls are in flight at most.
            errors: ``"raise"`` stops at the first failed item, ``"return"`` yields its error in its place.
            timeout_s: Deadline of each call, seconds.
            channel: Ensemble to ask.

        Raises:
            QuorumError: As :meth:`extract`, with ``errors="raise"``.
        """
        limit = window(concurrency)
        self._check_open()
        return self._many(iter(items), concurrency, limit, errors == "return", timeout_s, channel)

    def _many(
        self,
        items: Iterator[Item],
        concurrency: int,
        limit: int,
        keep_errors: bool,
        timeout_s: float | Unset,
        channel: str | None,
    ) -> Iterator[Extraction | QuorumError]:
        def ask(item: Item) -> Extraction | QuorumError:
            try:
                return self.extract(
                    item.text,
                    item.attributes,
                    category=item.category,
                    timeout_s=timeout_s,
                    channel=channel,
                    product_id=item.product_id,
                )
            except QuorumError as error:
                if keep_errors:
                    return error
                raise

        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="quorum-client")
        begun: deque[Future[Extraction | QuorumError]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(ask, item))
                while len(begun) >= limit or (begun and begun[0].done()):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            # Calls in flight end by their own deadline; waiting for them here would delay the caller's error.
            pool.shutdown(wait=False, cancel_futures=True)

    def is_ready(self, channel: str | None = None) -> bool:
        """Whether the channel can answer now; ``False`` also when nobody is there (asked within 5 s).

        Raises:
            ServerError: Something between here and there refused the question.
        """
        self._check_open()
        name, timeout_s = self._connection.ready_call(channel)
        try:
            answer = self._stub.ModelReady(
                pb.ModelReadyRequest(name=name), timeout=timeout_s, metadata=self._connection.metadata
            )
        except grpc.RpcError as error:
            mapped = self._connection.ready_error(error, name, timeout_s)
            if isinstance(mapped, Unavailable | DeadlineExceeded | ChannelNotFound):
                return False
            raise mapped from error
        return bool(answer.ready)

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this client is closed; make a new one")
