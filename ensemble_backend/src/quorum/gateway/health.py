# SPDX-License-Identifier: Apache-2.0
"""The standard gRPC health service, for orchestrators: it asks for no key and tells only what is ready.

https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.questions import OPEN
from quorum.gateway.upstream import Upstream
from quorum_client.errors import RequestError

CHECK = "/grpc.health.v1.Health/Check"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
_ASK_S, _FRESH_S = 1.0, 0.5


class Health:
    """Answers whether the gateway, or with the name of a channel that channel, is ready.

    Everyone may ask, so the server is asked at most twice a second for each channel: a gateway has one of it.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: dict[str, tuple[float, asyncio.Task[bool]]] = {}

    async def check(self, raw: bytes, context: Any) -> bytes:
        """Handle ``grpc.health.v1.Health/Check``."""
        try:
            # HealthCheckRequest has the same form: one string.
            service = pb.ModelReadyRequest.FromString(raw).name
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a message")
        if service and service not in OPEN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service; name a channel, or none")
        return _SERVING if not service or await self.is_ready(service) else _NOT_SERVING

    async def is_ready(self, channel: str) -> bool:
        """Whether tritonserver says that a public channel is ready, as it was within half a second."""
        now = asyncio.get_running_loop().time()
        began, task = self._known.get(channel, (-_FRESH_S, None))
        if task is None or now - began >= _FRESH_S:
            task = asyncio.ensure_future(self._ask(channel))
            self._known[channel] = now, task
        # One caller that goes must not take the answer from others.
        return await asyncio.shield(task)

    async def _ask(self, channel: str) -> bool:
        request = pb.ModelReadyRequest(name=channel).SerializeToString()
        try:
            answer = await self._upstream.look("ModelReady", request, _ASK_S)
        except (grpc.aio.AioRpcError, RequestError):
            return False
        return bool(pb.ModelReadyResponse.FromString(answer).ready)
