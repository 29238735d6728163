# SPDX-License-Identifier: Apache-2.0
"""KServe v2 over REST: health, metadata, and questions to the channels."""

from __future__ import annotations

import uuid
from importlib.metadata import version
from typing import Any

import grpc.aio
import msgspec
from starlette.responses import Response
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.asking import Question
from quorum.gateway.http.asking import SERVER, ProductAsking
from quorum.gateway.http.exchange import Exchange, decode, timeout_of
from quorum.gateway.http.kserve_tensors import (
    InferRequest,
    answer_of,
    message_of,
    text_of,
    timeout_of_parameters,
)
from quorum.gateway.http.problems import HttpRefused
from quorum.gateway.keys import Role
from quorum.gateway.parts import Gateway
from quorum.gateway.questions import check_channel
from quorum.gateway.routing import PRODUCT_ID_HEADER
from quorum_client.errors import Unavailable
from quorum_client.messages import error_of
from quorum_contract import RECOMMEND_CHANNELS, STABLE

_ASK_S = 5.0
_BINARY_HEADER = "inference-header-content-length"


class TensorMetadata(msgspec.Struct, frozen=True):
    """Name, type and shape of a tensor; -1 where a size varies."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a channel takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True):
    """What serves here."""

    name: str
    version: str
    extensions: list[str]


class Kserve:
    """Handlers of the paths under ``/v2``."""

    def __init__(self, gateway: Gateway, asking: ProductAsking) -> None:
        self._gateway, self._asking = gateway, asking
        self._health = gateway.health

    async def live(self, _: Exchange, __: bytes) -> Response:
        """Say that this process serves."""
        return _json({"live": True})

    async def ready(self, _: Exchange, __: bytes) -> Response:
        """Say whether the stable channel can answer."""
        return await self._ready(STABLE)

    async def model_ready(self, exchange: Exchange, _: bytes) -> Response:
        """Say whether a channel can answer."""
        return await self._ready(_channel(exchange))

    async def server(self, _: Exchange, __: bytes) -> Response:
        """Say what serves here."""
        return _json(ServerMetadata("quorum", version("quorum"), []))

    async def model(self, exchange: Exchange, _: bytes) -> Response:
        """Say what a channel takes and gives."""
        channel = _channel(exchange)
        request = pb.ModelMetadataRequest(name=channel).SerializeToString()
        try:
            raw = await self._gateway.upstream.call("ModelMetadata", request, _ASK_S)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, server=SERVER, channel=channel, timeout_s=_ASK_S) from failure
        metadata = pb.ModelMetadataResponse.FromString(raw)
        return _json(
            ModelMetadata(
                metadata.name,
                list(metadata.versions),
                metadata.platform,
                _tensors(metadata.inputs),
                _tensors(metadata.outputs),
            )
        )

    async def infer(self, exchange: Exchange, body: bytes) -> Response:
        """Ask a channel."""
        channel, headers = _channel(exchange), exchange.request.headers
        if _BINARY_HEADER in headers:
            raise HttpRefused(
                "binary tensors are not taken here; send data as JSON (tritonclient: binary_data=False)",
                status=415,
            )
        request = decode(body, InferRequest)
        role: Role = "recommend" if channel in RECOMMEND_CHANNELS else "extract"
        self._gateway.callers.check_role(exchange.asker, role)
        timeout_s = timeout_of_parameters(request, timeout_of(exchange.request, self._gateway.settings))
        product_id = headers.get(PRODUCT_ID_HEADER)
        message = message_of(request, channel, uuid.uuid4().hex, timeout_s)
        text = text_of(request)
        exchange.note_product(product_id, text)
        routed_by = text if product_id is None else product_id
        question = Question(exchange.asker, channel, timeout_s, routed_by, exchange.hop)
        answered = await self._asking.infer(question, message)
        exchange.note_answer(answered.channel, answered.cost)
        return _json(answer_of(answered.response, request, answered.channel))

    async def _ready(self, channel: str) -> Response:
        if not await self._health.is_ready(channel):
            raise Unavailable(f"{channel!r} is not ready: the server starts, or has no such channel")
        return _json({"ready": True})


def _channel(exchange: Exchange) -> str:
    channel: str = exchange.request.path_params["channel"]
    check_channel(channel)
    exchange.channel = channel
    return channel


def _tensors(tensors: Any) -> list[TensorMetadata]:
    return [TensorMetadata(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
