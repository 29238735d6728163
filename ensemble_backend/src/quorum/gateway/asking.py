# SPDX-License-Identifier: Apache-2.0
"""Ask one question of a caller: its quota, the channel of its product, and what the answer cost."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.hops import Hop
from quorum.gateway.keys import Caller
from quorum.gateway.parts import Gateway
from quorum.gateway.questions import cancel_of, unnamed, with_channel, with_outputs, without_outputs
from quorum.gateway.routing import cost_of, share_of
from quorum.gateway.upstream import INFER
from quorum_client.errors import DeadlineExceeded, Overloaded, Unavailable
from quorum_contract import RECOMMEND_CHANNELS
from quorum_contract.errors import take_code
from quorum_contract.tensors import CANARY_SHARE, COST

_UNASKED = frozenset(["OVERLOADED", "UNAVAILABLE", "CANCELLED", "INVALID_REQUEST"])
# Members answer at the deadline; what they took comes after it.
_LATE_S = 2.0


class Question(NamedTuple):
    """Who asks, and how.

    Attributes:
        caller: Whose quota counts.
        channel: As asked; a stable one may be answered by its canary.
        timeout_s: Its time, seconds.
        product: Id or text by which it is routed; None: the caller has chosen the channel.
        hop: Its trace.
    """

    caller: Caller
    channel: str
    timeout_s: float
    product: str | None
    hop: Hop


class Answered(NamedTuple):
    """An answer of tritonserver.

    Attributes:
        raw: Its bytes.
        response: The same as a ``ModelInferResponse``.
        channel: That answered.
        fallback_from: The canary that the product belongs to, where it failed.
        latency_s: Seconds that it took.
        cost: From its tensor ``COST``; None: it has none. NaN: not all of it is known.
    """

    raw: bytes
    response: Any
    channel: str
    fallback_from: str | None
    latency_s: float
    cost: float | None


class Asking:
    """Asks for the callers of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asked: set[asyncio.Task[Answered]] = set()

    async def ask(self, question: Question, request: Any, raw: bytes) -> Answered:
        """Count a question, pass it on, and count what its answer cost.

        Where money counts, it does so also if the caller has gone or its time is over: the answer is then
        waited for without it, and a caller that has gone is cancelled.

        Args:
            question: Who asks, and how.
            request: The ``ModelInferRequest``, checked.
            raw: Its bytes; what was added to them is not in ``request``.

        Raises:
            QuotaSpent: The caller's quota has no more.
            Unavailable, Overloaded, DeadlineExceeded: As of :class:`quorum.gateway.upstream.Upstream`.
            grpc.aio.AioRpcError: The server's own error.
        """
        if question.caller.cost_per_day is None or question.channel in RECOMMEND_CHANNELS:
            return await self._ask(question, request, raw)
        late = question._replace(timeout_s=question.timeout_s + _LATE_S)
        asked = asyncio.create_task(self._ask(late, request, raw))
        self._asked.add(asked)
        asked.add_done_callback(self._end)
        try:
            done, _ = await asyncio.wait([asked], timeout=question.timeout_s)
        except asyncio.CancelledError:
            self._cancel(raw)
            raise
        if not done:
            raise DeadlineExceeded(
                f"no answer within {question.timeout_s:.3g} s; allow more, or look at the server's load"
            )
        return asked.result()

    def _end(self, asked: asyncio.Task[Answered]) -> None:
        self._asked.discard(asked)
        # Its error, too, may have no caller that waits for it.
        if not asked.cancelled():
            asked.exception()

    def _cancel(self, message: bytes) -> None:
        """The server stops working on the question of a caller that has gone."""
        if (cancel := cancel_of(message)) is not None:
            self._gateway.upstream.send_unheeded(INFER, cancel)

    async def _ask(self, question: Question, request: Any, raw: bytes) -> Answered:
        recommends, hop = question.channel in RECOMMEND_CHANNELS, question.hop
        hop.set("quorum.caller", question.caller.name)
        hop.set("quorum.channel", question.channel)
        with await self._gateway.callers.begin(question.caller) as admitted:
            # What is learned from every answer, whatever its caller asked for.
            wanted = [CANARY_SHARE] if self._gateway.settings.route_canary else []
            wanted += [COST] if admitted.is_priced and not recommends else []
            added = unnamed(request, wanted)
            try:
                answered = await self._answer(question, hop.message(with_outputs(raw, added)))
            except Unavailable:
                admitted.asked = False
                raise
            except grpc.aio.AioRpcError as error:
                admitted.asked = _may_have_asked(error)
                raise
            admitted.cost = 0.0 if recommends else answered.cost
        hop.set("quorum.channel", answered.channel)
        self._gateway.router.learn(question.channel, share_of(answered.response))
        if not added:
            return answered
        without_outputs(answered.response, added)
        return answered._replace(raw=answered.response.SerializeToString())

    async def _answer(self, question: Question, message: bytes) -> Answered:
        """The answer of the channel that the product belongs to; if a canary fails, of the stable one."""
        asked, channel, fallback_from = question.channel, self._channel(question), None
        began, left_s, upstream = time.perf_counter(), question.timeout_s, self._gateway.upstream
        headers = question.hop.metadata
        raw: bytes | None = None
        try:
            if channel != asked:
                try:
                    raw = await upstream.call(INFER, with_channel(message, channel), left_s, headers=headers)
                except (grpc.aio.AioRpcError, Unavailable) as error:
                    if not _is_of_canary(error):
                        raise
                    channel, fallback_from = asked, channel
                    left_s = max(0.001, question.timeout_s - (time.perf_counter() - began))
            if raw is None:
                raw = await upstream.call(INFER, message, left_s, waits=True, headers=headers)
        except asyncio.CancelledError:
            self._cancel(message)
            raise
        response = pb.ModelInferResponse.FromString(raw)
        seconds = time.perf_counter() - began
        return Answered(raw, response, channel, fallback_from, seconds, cost_of(response))

    def _channel(self, question: Question) -> str:
        if question.product is None or not self._gateway.settings.route_canary:
            return question.channel
        return self._gateway.router.channel(question.channel, question.product)


def _may_have_asked(error: grpc.aio.AioRpcError) -> bool:
    """Whether members may have worked on a question that failed."""
    return take_code(error.details() or "").code not in _UNASKED and error.code() not in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    )


def _is_of_canary(error: grpc.aio.AioRpcError | Unavailable) -> bool:
    """Whether the stable channel may do better: not where the gate, which both share, is full or closed."""
    if isinstance(error, Overloaded):
        return False
    if isinstance(error, Unavailable):
        return True
    late = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT)
    return error.code() not in late and take_code(error.details() or "").code != Overloaded.code
