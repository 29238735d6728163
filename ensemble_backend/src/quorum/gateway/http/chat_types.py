# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat completions, as far as questions about products have them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from quorum.gateway.http.products import ExtractAnswer, Id
from quorum_client.errors import InvalidRequest
from quorum_contract import STABLE, Priority

_MOST_MESSAGES = 256


class Unsupported(InvalidRequest):
    """A parameter of OpenAI's API that has no meaning here.

    Attributes:
        param: Its name.
    """

    code = "PARAMETER_UNSUPPORTED"

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message; only those of type ``text`` are taken."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message; the last one of the role ``user`` is the product's text, the others are not read."""

    role: str
    content: str | list[ContentPart] | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    """A named JSON schema."""

    name: str = ""
    schema: dict[str, Any] = {}


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer: of ``json_schema`` the properties are the attributes wanted."""

    type: Literal["json_schema", "json_object", "text"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Whether a stream ends with the usage."""

    include_usage: bool = False


class QuorumOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What OpenAI's API has no field for.

    Attributes:
        attributes: Those wanted, where there is no schema; by default all of the catalogue.
        category: Of the product.
        product_id: Of the product, by which it always has the same channel.
        lazy: As of :class:`ExtractRequest`.
        priority: As there.
    """

    attributes: list[str] | None = None
    category: str = ""
    product_id: Id | None = None
    lazy: bool = False
    priority: Priority = "interactive"


class ChatRequest(msgspec.Struct, frozen=True):
    """A request for a chat completion; parameters of sampling are accepted, and change nothing.

    Attributes:
        messages: The last of the user is the product.
        model: A channel.
        response_format: By default, and with ``json_object``, the attributes of the catalogue are answered.
        stream: Answer as server-sent events.
        stream_options: For that.
        n: 1.
        quorum: More options.
        tools: None.
        functions: None.
        logprobs: False.
        top_logprobs: 0.
        modalities: Only text.
        audio: None.
    """

    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=_MOST_MESSAGES)]
    model: str = STABLE
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    quorum: QuorumOptions = QuorumOptions()
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None

    def text(self) -> str:
        """The product's text.

        Raises:
            InvalidRequest: There is none, or it is no text.
        """
        for message in reversed(self.messages):
            if message.role == "user":
                return _text_of(message)
        raise InvalidRequest("messages: none has the role user; its content is the product's text")

    def check(self) -> None:
        """Refuse what has no meaning here.

        Raises:
            Unsupported: Such a parameter.
        """
        faults = {
            "n": self.n not in (None, 1) and f"n: {self.n}; a product has one answer",
            "tools": bool(self.tools) and "tools: there are none; attributes are asked by response_format",
            "functions": bool(self.functions) and "functions: there are none; use response_format",
            "logprobs": bool(self.logprobs or self.top_logprobs)
            and "logprobs: tokens have none; every vote's score is in the field quorum of the answer",
            "modalities": bool(self.modalities) and self.modalities != ["text"] and "modalities: only text",
            "audio": self.audio is not None and "audio: there is none; only text",
        }
        for param, fault in faults.items():
            if fault:
                raise Unsupported(fault, param=param)


def _text_of(message: Message) -> str:
    if message.content is None:
        raise InvalidRequest("messages: the user's message has no content; it is the product's text")
    if isinstance(message.content, str):
        return message.content
    for part in message.content:
        if part.type != "text":
            raise Unsupported(
                f"messages: a part of type {part.type[:32]!r}; products are described by text",
                param="messages",
            )
    return "\n".join(part.text for part in message.content)


class ChatMessage(msgspec.Struct, frozen=True):
    """The answer: JSON in ``content``, or in ``refusal`` why the schema has no place for it."""

    content: str | None
    refusal: str | None = None
    role: Literal["assistant"] = "assistant"


class ChatUsage(msgspec.Struct, frozen=True):
    """Tokens of all members together; null where a member's are not known; ``cost`` as of the answer."""

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost: float | None
    currency: str


class Choice(msgspec.Struct, frozen=True):
    """The only answer."""

    message: ChatMessage
    index: int = 0
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """A chat completion; ``quorum`` is what ``/v1/extract`` answers: votes, confidence, version, cost."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage | None
    system_fingerprint: str
    quorum: ExtractAnswer
    object: Literal["chat.completion"] = "chat.completion"


class ChunkChoice(msgspec.Struct, frozen=True):
    """The whole answer, as one step of a stream."""

    delta: ChatMessage
    index: int = 0
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of a stream: the answer, then the usage if it is asked for."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: str
    system_fingerprint: str
    usage: ChatUsage | None = None
    quorum: ExtractAnswer | None = None


class Model(msgspec.Struct, frozen=True):
    """A channel, as a model of OpenAI's API."""

    id: str
    created: int = 0
    owned_by: str = "quorum"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    """The channels that can answer now."""

    data: list[Model]
    object: Literal["list"] = "list"
