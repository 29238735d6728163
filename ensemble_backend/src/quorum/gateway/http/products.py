# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/extract`` and ``POST /v1/recommend``: questions about products, as JSON."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from quorum.gateway.asking import Question
from quorum.gateway.http.asking import ProductAsking
from quorum.gateway.http.exchange import MAX_PRODUCTS, Exchange, decode, timeout_of
from quorum.gateway.http.problems import Problem, problem_of
from quorum.gateway.parts import Gateway
from quorum.gateway.questions import check_channel
from quorum_client import Extraction, RecommendItem
from quorum_client.errors import InvalidRequest
from quorum_contract import LAZY_CHANNELS, LAZY_OF, RECOMMEND, RECOMMEND_CHANNELS, STABLE, Priority
from quorum_contract.errors import QuorumError
from quorum_contract.fields import join_fields

_AT_ONCE = 8
Text = str | dict[str, str]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One product.

    Attributes:
        text: Title and description, or named fields, whose texts are joined.
        id: Its identifier, by which it always has the same channel while a canary is tried.
        category: Its category.
        attributes: Those wanted of it; by default those of the request.
    """

    text: Text
    id: Id | None = None
    category: str = ""
    attributes: list[str] | None = None


class ExtractRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question about one product, by its ``text``, or about several ``products``.

    Attributes:
        text: Title and description, or named fields.
        products: Several products, instead of ``text``, ``id`` and ``category``; each counts as one request.
        attributes: Names of the attributes wanted; by default all of the catalogue.
        id: Of the product, see there.
        category: Of the product.
        channel: ``quorum`` is stable; ``quorum_canary`` tries the next weights.
        lazy: Ask members in rows, as the channels ``quorum_lazy`` do, where the deployment has them.
        priority: ``bulk`` requests give way to others.
    """

    text: Text | None = None
    products: Annotated[list[Product], msgspec.Meta(min_length=1, max_length=MAX_PRODUCTS)] | None = None
    attributes: list[str] | None = None
    id: Id | None = None
    category: str = ""
    channel: str = STABLE
    lazy: bool = False
    priority: Priority = "interactive"


class VoteJson(msgspec.Struct, frozen=True):
    """One member's vote.

    Attributes:
        member: Its name.
        value: Null for an abstention.
        status: ``ANSWERED``, or why it abstained.
        score: Log-probability of the value, nats; null where there is none.
    """

    member: str
    value: str | None
    status: str
    score: float | None


class AnswerJson(msgspec.Struct, frozen=True):
    """The decision on one attribute.

    Attributes:
        attribute: Its name.
        value: The decided value; ``n/a``: the text does not say; null: none was decided.
        confidence: In [0, 1].
        status: ``DECIDED``, or why there is no value.
        votes: Of every member.
    """

    attribute: str
    value: str | None
    confidence: float
    status: str
    votes: list[VoteJson]


class SpentJson(msgspec.Struct, frozen=True):
    """What one member's part in an answer took; null: not known."""

    calls: float
    prompt_tokens: float | None
    answer_tokens: float | None
    cached_tokens: float | None
    seconds: float | None
    cost: float | None


class ExtractAnswer(msgspec.Struct, frozen=True):
    """The answer for one product.

    Attributes:
        id: Of the product, as given.
        request_id: Of the question to the server, for its logs.
        answers: In the order asked.
        weights_version: The version that decided.
        latency_s: Seconds from question to answer at the gateway.
        channel: That answered.
        fallback_from: The canary that the product was routed to, and that failed.
        cost: In ``currency``; null: not known.
        currency: Of the deployment's prices; "": there are none.
        usage: What each member's part took.
    """

    id: str | None
    request_id: str
    answers: list[AnswerJson]
    weights_version: int
    latency_s: float
    channel: str
    fallback_from: str | None
    cost: float | None
    currency: str
    usage: dict[str, SpentJson]


class ProductResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one of several products: an answer, or an error."""

    id: str | None
    answer: ExtractAnswer | None = None
    error: Problem | None = None


class ExtractResults(msgspec.Struct, frozen=True):
    """What came of several products, in their order."""

    results: list[ProductResult]


class RecommendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question for keyphrases.

    Attributes:
        text: Of the item.
        k: How many are wanted, 1 to 100.
        category: Of the item; "": keyphrases of all categories.
        min_score: The lowest score of one; null: any.
        id: Of the item, by which it always has the same channel.
        channel: ``quorum_recommend`` is stable.
        priority: As of :class:`ExtractRequest`.
    """

    text: str
    k: int = 20
    category: str = ""
    min_score: float | None = None
    id: Id | None = None
    channel: str = RECOMMEND
    priority: Priority = "interactive"


class KeyphraseJson(msgspec.Struct, frozen=True):
    """A keyphrase, and the cosine of its vector and the item's."""

    text: str
    score: float


class RecommendAnswer(msgspec.Struct, frozen=True):
    """The keyphrases for an item, best first; ``version`` is that of the retriever."""

    id: str | None
    request_id: str
    keyphrases: list[KeyphraseJson]
    version: int
    latency_s: float
    channel: str
    fallback_from: str | None


def channel_of(channel: str, *, lazy: bool = False, recommends: bool = False) -> str:
    """The channel of a question.

    Raises:
        ChannelNotFound: There is none of that name.
        InvalidRequest: It answers other questions.
    """
    check_channel(channel)
    if (channel in RECOMMEND_CHANNELS) is not recommends:
        path = "/v1/recommend" if channel in RECOMMEND_CHANNELS else "/v1/extract"
        raise InvalidRequest(f"channel: {channel!r} answers POST {path}")
    return LAZY_OF[channel] if lazy and channel not in LAZY_CHANNELS else channel


def joined(text: Text) -> str:
    """The text by which a product without an id is routed."""
    return text if isinstance(text, str) else join_fields(text)


def extract_answer(extraction: Extraction, product_id: str | None, currency: str) -> ExtractAnswer:
    """The answer as JSON has it."""
    fields = {**extraction.to_dict(), "id": product_id, "currency": currency}
    return msgspec.convert(fields, ExtractAnswer)


class Products:
    """Handlers of both paths."""

    def __init__(self, gateway: Gateway, asking: ProductAsking) -> None:
        self._gateway, self._asking = gateway, asking

    async def extract(self, exchange: Exchange, body: bytes) -> Response:
        """Answer for one product, or for several."""
        request = decode(body, ExtractRequest)
        exchange.channel = channel_of(request.channel, lazy=request.lazy)
        timeout_s = timeout_of(exchange.request, self._gateway.settings)
        if (request.text is None) is (request.products is None):
            raise InvalidRequest("give either text, for one product, or products")
        if request.products is None:
            assert request.text is not None
            product = Product(request.text, request.id, request.category)
            exchange.note_product(product.id, product.text)
            return _json(await self._extract(exchange, request, product, timeout_s))
        if request.id is not None or request.category:
            raise InvalidRequest("id and category go with text; give each of the products its own")
        for product in request.products:
            exchange.note_product(product.id, product.text)
        return _json(await self._extract_many(exchange, request, request.products, timeout_s))

    async def recommend(self, exchange: Exchange, body: bytes) -> Response:
        """Answer with keyphrases for an item."""
        request = decode(body, RecommendRequest)
        exchange.channel = channel_of(request.channel, recommends=True)
        exchange.note_product(request.id, request.text)
        timeout_s = timeout_of(exchange.request, self._gateway.settings)
        question = Question(
            exchange.asker, exchange.channel, timeout_s, request.id or request.text, exchange.hop
        )
        item = RecommendItem(request.text, request.category, request.k, request.min_score)
        recommendation = await self._asking.recommend(question, item, request.priority)
        exchange.note_answer(recommendation.channel, None)
        return _json(msgspec.convert({**recommendation.to_dict(), "id": request.id}, RecommendAnswer))

    async def _extract(
        self, exchange: Exchange, request: ExtractRequest, product: Product, timeout_s: float
    ) -> ExtractAnswer:
        wanted = product.attributes if product.attributes is not None else request.attributes
        attributes = self._gateway.settings.attributes if wanted is None else wanted
        channel = channel_of(request.channel, lazy=request.lazy)
        routed_by = product.id or joined(product.text)
        question = Question(exchange.asker, channel, timeout_s, routed_by, exchange.hop)
        extraction = await self._asking.extract(
            question, product.text, attributes, product.category, request.priority
        )
        exchange.note_answer(extraction.channel, extraction.cost)
        return extract_answer(extraction, product.id, self._gateway.settings.currency)

    async def _extract_many(
        self, exchange: Exchange, request: ExtractRequest, products: list[Product], timeout_s: float
    ) -> ExtractResults:
        """Ask about several at once; one that fails leaves the others alone."""
        room = asyncio.Semaphore(_AT_ONCE)
        end = asyncio.get_running_loop().time() + timeout_s

        async def result(product: Product) -> ProductResult:
            async with room:
                left_s = max(0.001, end - asyncio.get_running_loop().time())
                try:
                    answer = await self._extract(exchange, request, product, left_s)
                except QuorumError as error:
                    return ProductResult(product.id, error=problem_of(error, exchange.request_id))
                return ProductResult(product.id, answer)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(result(product)) for product in products]
        return ExtractResults([task.result() for task in tasks])


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
