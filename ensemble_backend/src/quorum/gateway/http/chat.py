# SPDX-License-Identifier: Apache-2.0
"""OpenAI's ``POST /v1/chat/completions`` and ``GET /v1/models``: its clients get attributes as they are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from starlette.responses import Response

from quorum.gateway.asking import Question
from quorum.gateway.http.asking import ProductAsking
from quorum.gateway.http.chat_schema import Property, SchemaMisfit, properties_of
from quorum.gateway.http.chat_types import (
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    ChatUsage,
    Choice,
    ChunkChoice,
    Model,
    ModelList,
)
from quorum.gateway.http.exchange import Exchange, decode, timeout_of
from quorum.gateway.http.products import channel_of, extract_answer
from quorum.gateway.parts import Gateway
from quorum_client import Extraction
from quorum_client.errors import ChannelNotFound, InvalidRequest
from quorum_contract import CHANNELS, LAZY_CHANNELS

MODELS = (*CHANNELS, *LAZY_CHANNELS)
"""The channels that are models here."""


class Chat:
    """Handlers of OpenAI's paths."""

    def __init__(self, gateway: Gateway, asking: ProductAsking) -> None:
        self._gateway, self._asking = gateway, asking
        self._health = gateway.health

    async def completions(self, exchange: Exchange, body: bytes) -> Response:
        """Answer for the product in the last message."""
        request = decode(body, ChatRequest)
        request.check()
        options, text = request.quorum, request.text()
        exchange.channel = channel_of(request.model, lazy=options.lazy)
        exchange.note_product(options.product_id, text)
        properties = self._properties(request)
        timeout_s = timeout_of(exchange.request, self._gateway.settings)
        question = Question(
            exchange.asker, exchange.channel, timeout_s, options.product_id or text, exchange.hop
        )
        attributes = [wanted.attribute for wanted in properties]
        extraction = await self._asking.extract(
            question, text, attributes, options.category, options.priority
        )
        exchange.note_answer(extraction.channel, extraction.cost)
        answer = self._completion(
            request.model, extraction, _message(extraction, properties), options.product_id
        )
        return _events(answer, request) if request.stream else _json(answer)

    async def models(self, _: Exchange, __: bytes) -> Response:
        """List the channels that can answer."""
        ready = await asyncio.gather(*(self._health.is_ready(channel) for channel in MODELS))
        return _json(
            ModelList([Model(name) for name, is_ready in zip(MODELS, ready, strict=True) if is_ready])
        )

    async def model(self, exchange: Exchange, _: bytes) -> Response:
        """Say that a channel can answer."""
        name = exchange.request.path_params["channel"]
        if name not in MODELS or not await self._health.is_ready(name):
            raise ChannelNotFound(f"{name[:64]!r} is no model that can answer; GET /v1/models lists them")
        return _json(Model(name))

    def _properties(self, request: ChatRequest) -> list[Property]:
        """The attributes that are asked, and how each is written."""
        form = request.response_format
        if form is not None and form.type == "json_schema":
            if form.json_schema is None:
                raise InvalidRequest("response_format: json_schema is missing")
            return properties_of(form.json_schema.schema, self._gateway.settings.attributes)
        wanted = request.quorum.attributes
        return [
            Property(name, name) for name in (self._gateway.settings.attributes if wanted is None else wanted)
        ]

    def _completion(
        self, model: str, extraction: Extraction, message: ChatMessage, product_id: str | None
    ) -> ChatCompletion:
        spent = extraction.spent
        prompt, answer = (spent.prompt_tokens, spent.answer_tokens) if spent else (None, None)
        tokens = None if prompt is None or answer is None else int(prompt) + int(answer)
        return ChatCompletion(
            id=f"chatcmpl-{extraction.request_id}",
            created=int(time.time()),
            model=model,
            choices=[Choice(message)],
            usage=ChatUsage(
                _whole(prompt), _whole(answer), tokens, extraction.cost, self._gateway.settings.currency
            ),
            system_fingerprint=f"weights-{extraction.weights_version}",
            quorum=extract_answer(extraction, product_id, self._gateway.settings.currency),
        )


def _message(extraction: Extraction, properties: list[Property]) -> ChatMessage:
    """The values as the schema has them; where it has no place for one, a refusal that says so."""
    content, misfits = {}, []
    for wanted, answer in zip(properties, extraction.answers, strict=True):
        try:
            content[wanted.name] = wanted.write(answer.value)
        except SchemaMisfit as error:
            misfits.append(str(error))
    if misfits:
        return ChatMessage(None, "; ".join(misfits))
    return ChatMessage(msgspec.json.encode(content).decode())


def _events(answer: ChatCompletion, request: ChatRequest) -> Response:
    """The answer as a stream of one chunk, and of the usage if it is asked for."""

    def chunk(choices: list[ChunkChoice], **more: Any) -> ChatChunk:
        return ChatChunk(
            answer.id, answer.created, answer.model, choices, "chat.completion.chunk",
            answer.system_fingerprint, **more,
        )  # fmt: skip

    chunks = [chunk([ChunkChoice(answer.choices[0].message)], quorum=answer.quorum)]
    if request.stream_options and request.stream_options.include_usage:
        chunks.append(chunk([], usage=answer.usage))
    lines = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in chunks]
    return Response(b"".join([*lines, b"data: [DONE]\n\n"]), media_type="text/event-stream")


def _whole(tokens: float | None) -> int | None:
    return None if tokens is None else int(tokens)


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
