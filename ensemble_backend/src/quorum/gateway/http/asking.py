# SPDX-License-Identifier: Apache-2.0
"""Ask about products with the client's own messages; errors of gRPC become those of this project."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import grpc.aio

from quorum.gateway.asking import Answered, Asking, Question
from quorum.gateway.parts import Gateway
from quorum_client import Extraction, Recommendation, RecommendItem
from quorum_client.errors import InvalidRequest
from quorum_client.messages import (
    error_of,
    extract_message,
    read_extraction,
    read_recommendation,
    recommend_message,
)
from quorum_contract import Priority

SERVER = "the server"
"""What messages call tritonserver: its address is for its operator alone."""


class ProductAsking:
    """Asks for callers over HTTP."""

    def __init__(self, gateway: Gateway) -> None:
        self._asking, self._most = Asking(gateway), gateway.settings.max_message_bytes

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
        answered = await self.infer(question, message)
        return read_extraction(
            answered.response, attributes, ident, answered.latency_s, answered.channel, answered.fallback_from
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
        answered = await self.infer(question, message)
        return read_recommendation(
            answered.response, ident, answered.latency_s, answered.channel, answered.fallback_from
        )

    async def infer(self, question: Question, request: Any) -> Answered:
        """Ask with a checked ``ModelInferRequest``, which has an id; a cost that is not known is None.

        Raises:
            RequestError: One of the tree in :mod:`quorum_client.errors`.
        """
        raw: bytes = request.SerializeToString()
        if len(raw) > self._most:
            raise InvalidRequest(f"the question has {len(raw)} bytes, the limit is {self._most}; shorten it")
        try:
            answered = await self._asking.ask(question, request, raw)
        except grpc.aio.AioRpcError as failure:
            raise error_of(
                failure, server=SERVER, channel=question.channel, timeout_s=question.timeout_s
            ) from failure
        is_known = answered.cost is not None and math.isfinite(answered.cost)
        return answered if is_known else answered._replace(cost=None)
