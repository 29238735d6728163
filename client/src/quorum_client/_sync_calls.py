# SPDX-License-Identifier: Apache-2.0
"""Send calls, blocking: the part of the client that does not depend on what is asked."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from queue import Empty, SimpleQueue
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


class Calls:
    """The connections to the servers, and the calls in flight on them."""

    def __init__(self, connection: Connection) -> None:
        """Prepare the connections; each is opened by its first call."""
        from quorum_client import _grpc

        self._connection = connection
        self._failure: type[Exception] = _grpc.RpcError
        credentials, options = connection.credentials, connection.options
        self._channels: dict[Server, Any] = {
            server: _grpc.secure_channel(server.url, credentials, options)
            if credentials
            else _grpc.insecure_channel(server.url, options)
            for server in connection.servers.all
        }
        self._stubs: dict[Server, Any] = {
            server: _grpc.GRPCInferenceServiceStub(channel) for server, channel in self._channels.items()
        }
        self._closed = False
        self._in_flight: set[Attempts[Any]] = set()
        # Calls that nothing refers to are cancelled.
        self._cancelling: set[Any] = set()
        self._probing: set[Any] = set()

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
        """Send a call, again as long as the retry rule says; cancel it on the server if it is interrupted."""
        attempts = self._connection.attempts(call, spent_s)
        self._in_flight.add(attempts)
        result = None
        try:
            while True:
                ended = self._attempt(attempts)
                if isinstance(ended, tuple):
                    (result,) = ended
                    return result
                time.sleep(ended)
                self._check_open()
        except BaseException as error:
            attempts.failed(error)
            if not isinstance(error, Exception):
                self._cancel(attempts)
            raise
        finally:
            attempts.end_all(result)
            self._in_flight.discard(attempts)

    def _attempt(self, attempts: Attempts[Result]) -> tuple[Result] | float:
        """Send a call to one server; returns the result, or the seconds until it is sent again."""
        self._probe()
        server, sent, delay_s = attempts.begin(), time.perf_counter(), attempts.hedge_delay_s()
        try:
            if delay_s is None:
                response = self._stubs[server].ModelInfer(
                    attempts.call.message, timeout=attempts.left_s(), metadata=attempts.metadata(server)
                )
            else:
                server, sent, done = self._hedged(attempts, server, delay_s)
                response = done.result()
        except self._failure as failure:
            attempts.lost(server, failure)
            return attempts.pause_s()
        return (self._connection.result(attempts, server, response, sent),)

    def _hedged(self, attempts: Attempts[Any], server: Server, delay_s: float) -> tuple[Server, float, Any]:
        """Send a call to a server, and to a second one too if the first gives no answer in time.

        Returns:
            The server of the call that is used, the time when it was sent to it, and the ended call.
        """
        ended: SimpleQueue[Any] = SimpleQueue()
        sent: dict[Any, tuple[Server, float]] = {}

        def send(to: Server) -> None:
            future = self._stubs[to].ModelInfer.future(
                attempts.call.message, timeout=attempts.left_s(), metadata=attempts.metadata(to)
            )
            sent[future] = to, time.perf_counter()
            future.add_done_callback(ended.put)

        try:
            send(server)
            try:
                used = ended.get(timeout=delay_s)
            except Empty:
                second = attempts.hedge()
                if second is not None:
                    send(second)
                used = ended.get()
                if len(sent) == 2 and used.exception() is not None:
                    attempts.lost(sent[used][0], used)
                    used = ended.get()
        except BaseException:
            for future in sent:
                future.cancel()
            raise
        for future, (other, _) in sent.items():
            if not future.done():
                future.cancel()
                self._cancel_at(other, attempts)
        return (*sent[used], used)

    def _probe(self) -> None:
        """Ask servers that were away whether they are ready, and wait for nothing."""
        for server in self._connection.servers.due():
            asked = self._stubs[server].ModelReady.future(
                _wire.ready_request(server.channel), timeout=PROBE_S, metadata=self._connection.metadata
            )
            self._probing.add(asked)
            asked.add_done_callback(partial(self._probed, server))

    def _probed(self, server: Server, asked: Any) -> None:
        self._probing.discard(asked)
        ready = asked.code().name == "OK" and asked.result().ready
        self._connection.servers.probed(server, ready=ready)

    def _cancel(self, attempts: Attempts[Any]) -> None:
        """Ask the servers to stop working on a call, and wait for nothing."""
        for server in list(attempts.asking):
            self._cancel_at(server, attempts)

    def _cancel_at(self, server: Server, attempts: Attempts[Any]) -> None:
        message = attempts.cancel_message()
        if self._closed or message is None:
            return
        metadata = self._connection.metadata
        sent = self._stubs[server].ModelInfer.future(message, timeout=CANCEL_S, metadata=metadata)
        self._cancelling.add(sent)
        sent.add_done_callback(self._cancelling.discard)

    def is_ready(self, channel: str | None = None, *, timeout_s: float | Unset = UNSET) -> bool:
        """Whether the channel can answer now, of any server; ``False`` also when none responds in time.

        All servers are asked at once.

        Args:
            channel: Ensemble to ask about, by default the client's.
            timeout_s: Seconds for the answer; by default 5, or the client's ``timeout_s`` where that is less.

        Raises:
            InvalidRequest: An argument cannot be.
            ServerError: None is ready, and a server or a proxy refused the question.
        """
        self._check_open()
        name, seconds = self._connection.ready_call(channel, timeout_s)
        ended: SimpleQueue[Any] = SimpleQueue()
        asked: dict[Any, Server] = {}
        refusal: RequestError | None = None
        try:
            for server, stub in self._stubs.items():
                future = stub.ModelReady.future(
                    _wire.ready_request(name), timeout=seconds, metadata=self._connection.metadata
                )
                asked[future] = server
                future.add_done_callback(ended.put)
            for _ in asked:
                done = ended.get()
                if done.code().name != "OK":
                    found = self._connection.ready_refusal(done, asked[done], name, seconds)
                    refusal = refusal or found
                elif done.result().ready:
                    return True
        finally:
            for future in asked:
                future.cancel()
        if refusal:
            raise refusal
        return False

    def close(self) -> None:
        """Close the connections; calls in flight are cancelled, on the servers too."""
        for attempts in list(self._in_flight):
            self._cancel(attempts)
        self._closed = True
        try:
            for sent in list(self._cancelling):
                # Whatever became of it.
                with contextlib.suppress(Exception):
                    sent.exception()
        finally:
            for channel in self._channels.values():
                channel.close()

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
