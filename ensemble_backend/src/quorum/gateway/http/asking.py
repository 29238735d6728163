# SPDX-License-Identifier: Apache-2.0
"""Send one question of a caller to tritonserver: its quota, channel, time and cost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.callers import Admitted
from quorum.gateway.keys import Caller
from quorum.gateway.parts import Gateway
from quorum.gateway.questions import cancel_of, with_channel, with_cost
from quorum.gateway.routing import cost_of, share_of
from quorum.gateway.upstream import INFER
from quorum_client import Extraction, Recommendation, RecommendItem
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RequestError,
    Unavailable,
)
from quorum_client.messages import (
    error_of,
    extract_message,
    read_extraction,
    read_recommendation,
    recommend_message,
)
from quorum_contract import RECOMMEND_CHANNELS, Priority

SERVER = "the server"
"""What messages call tritonserver: its address is for its operator alone."""


class Question(NamedTuple):
    """How a question is asked.

    Attributes:
        caller: Who asks, and whose quota counts.
        channel: As asked; a stable one may be answered by its canary.
        timeout_s: Its time, seconds.
        product_id: By which it is routed; None: by its text.
    """

    caller: Caller
    channel: str
    timeout_s: float
    product_id: str | None = None


class Answered(NamedTuple):
    """An answer as tritonserver gave it: a ``ModelInferResponse``, and where it came from."""

    response: Any
    channel: str
    fallback_from: str | None
    latency_s: float
    cost: float | None


class Asking:
    """Asks for callers of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def extract(
        self,
        question: Question,
        text: str | Mapping[str, str],
        attributes: Sequence[str],
        category: str,
        priority: Priority,
    ) -> Extraction:
        """Ask for attributes.

        Raises:
            RequestError: One of the tree in :mod:`quorum_client.errors`.
        """
        ident = uuid.uuid4().hex
        message = extract_message(
            text, attributes, category, channel=question.channel, request_id=ident,
            timeout_s=question.timeout_s, priority=priority,
        )  # fmt: skip
        found = await self.infer(
            question, message, text if isinstance(text, str) else "\n".join(text.values())
        )
        return read_extraction(
            found.response, attributes, ident, found.latency_s, found.channel, found.fallback_from
        )

    async def recommend(self, question: Question, item: RecommendItem, priority: Priority) -> Recommendation:
        """Ask for keyphrases.

        Raises:
            RequestError: One of the tree in :mod:`quorum_client.errors`.
        """
        ident = uuid.uuid4().hex
        message = recommend_message(
            item, channel=question.channel, request_id=ident, timeout_s=question.timeout_s, priority=priority
        )
        found = await self.infer(question, message, item.text)
        return read_recommendation(found.response, ident, found.latency_s, found.channel, found.fallback_from)

    async def infer(self, question: Question, request: Any, text: str) -> Answered:
        """Ask with a checked ``ModelInferRequest``, which has an id; its caller's quota is counted.

        Raises:
            RequestError: One of the tree in :mod:`quorum_client.errors`.
        """
        raw: bytes = request.SerializeToString()
        most = self._gateway.settings.max_message_bytes
        if len(raw) > most:
            raise InvalidRequest(f"the question has {len(raw)} bytes, the limit is {most}; shorten it")
        recommends = question.channel in RECOMMEND_CHANNELS
        with self._gateway.callers.begin(question.caller) as admitted:
            if admitted.is_priced and not recommends:
                raw = with_cost(raw, request)
            found = await self._routed(question, raw, text, admitted)
            admitted.cost = 0.0 if recommends else found.cost
        self._gateway.router.learn(question.channel, share_of(found.response))
        return found

    async def _routed(self, question: Question, raw: bytes, text: str, admitted: Admitted) -> Answered:
        """Ask the canary where the product belongs to it, and the channel that was named if that fails."""
        channel, began = question.channel, time.perf_counter()
        if self._gateway.settings.route_canary:
            product = text if question.product_id is None else question.product_id
            channel = self._gateway.router.channel(channel, product)
        try:
            fallback_from = None
            if channel != question.channel:
                try:
                    answer = await self._send(question, channel, with_channel(raw, channel), began, admitted)
                except RequestError as error:
                    # Behind the same gate the stable channel does no better.
                    if isinstance(error, Overloaded | DeadlineExceeded | InvalidRequest):
                        raise
                    fallback_from, channel = channel, question.channel
                    answer = await self._send(question, channel, raw, began, admitted)
            else:
                answer = await self._send(question, channel, raw, began, admitted)
        except asyncio.CancelledError:
            # The server stops working on the question of a caller that has gone.
            if (cancel := cancel_of(raw)) is not None:
                self._gateway.upstream.send_unheeded(INFER, cancel)
            raise
        response = pb.ModelInferResponse.FromString(answer)
        return Answered(response, channel, fallback_from, time.perf_counter() - began, cost_of(response))

    async def _send(
        self, question: Question, channel: str, raw: bytes, began: float, admitted: Admitted
    ) -> bytes:
        """Send a message in what is left of the time; errors of gRPC become those of this project."""
        left_s = max(0.001, question.timeout_s - (time.perf_counter() - began))
        waits = channel == question.channel
        try:
            answer = await self._gateway.upstream.call(INFER, raw, left_s, waits=waits)
        except Unavailable:
            admitted.asked = False
            raise
        except grpc.aio.AioRpcError as failure:
            error = error_of(failure, server=SERVER, channel=channel, timeout_s=question.timeout_s)
            admitted.asked = not isinstance(error, ChannelNotFound | InvalidRequest | Overloaded)
            raise error from failure
        admitted.asked = True
        return answer
