# SPDX-License-Identifier: Apache-2.0
"""One request and its answer: its ids, its time, its body, and what the log keeps of it."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from quorum.gateway.hops import Hop
from quorum.gateway.http.problems import HttpRefused
from quorum.gateway.keys import Caller
from quorum.gateway.settings import Settings
from quorum_client.errors import InvalidRequest, Overloaded
from quorum_contract.tracing import TRACEPARENT

REQUEST_ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout-ms"
MAX_PRODUCTS = 32
"""The most products of one call."""
_BODIES = 16
_IN_MEMORY_BYTES = 64 << 20
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32

Body = TypeVar("Body")


@dataclass(slots=True)
class Exchange:
    """One request on its way.

    Attributes:
        request: As Starlette has it.
        request_id: Of the caller, or a new one; it goes back with the answer.
        began: By the performance counter.
        trace_id: Of the trace it belongs to, else of the one that the caller names; "": none.
        hop: Its trace, once its caller is known.
        caller: None until it is known.
        channel: That was asked or, once there is one, that answered.
        products: How many were asked about.
        product: Hash of the id of the only one; "": it has none.
        cost: Of the answers, as far as known.
        code: Of the error; "": none.
        texts: Of the products, where the log keeps them.
    """

    request: Request
    request_id: str
    began: float = field(default_factory=time.perf_counter)
    trace_id: str = ""
    hop: Hop = field(default_factory=lambda: Hop({}))
    caller: Caller | None = None
    channel: str = ""
    products: int = 0
    product: str = ""
    cost: float | None = None
    code: str = ""
    texts: list[Any] = field(default_factory=list)

    @property
    def asker(self) -> Caller:
        """The caller, which is known once a handler runs."""
        assert self.caller is not None
        return self.caller

    def follow(self, hop: Hop) -> None:
        """Go on with its trace."""
        self.hop, self.trace_id = hop, hop.trace_id or self.trace_id
        hop.set("quorum.request_id", self.request_id)

    def note_product(self, product_id: str | None, text: Any) -> None:
        """Note one more product, for the log."""
        self.products += 1
        self.product = hash_of_id(product_id) if product_id and self.products == 1 else ""
        self.texts.append(text)

    def note_answer(self, channel: str, cost: float | None) -> None:
        """Note one more answer, for the log."""
        self.channel = channel
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost


def begin(request: Request) -> Exchange:
    """Begin an exchange: an id that cannot stand in a header or a log is replaced."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    exchange = Exchange(request, given if _ID.fullmatch(given) else uuid.uuid4().hex)
    if (trace := _TRACEPARENT.fullmatch(request.headers.get(TRACEPARENT, ""))) and trace[1] != _NO_TRACE:
        exchange.trace_id = trace[1]
    return exchange


def hash_of_id(product_id: str) -> str:
    """What the log has of a product's id: the same for the same id, and nothing of it."""
    return hashlib.sha256(product_id.encode("utf-8", "replace")).hexdigest()[:16]


def timeout_of(request: Request, settings: Settings) -> float:
    """Seconds that a request may take: its own, up to the longest of the deployment.

    Raises:
        InvalidRequest: The header is no number above 0.
    """
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return settings.timeout_s
    if not given.isascii() or not given.isdigit() or int(given[:12]) == 0:
        raise InvalidRequest(f"{TIMEOUT_HEADER}: {given[:32]!r}; give milliseconds, a whole number above 0")
    return min(int(given[:12]) / 1e3, settings.max_timeout_s)


class Bodies:
    """Reads bodies of requests, so that all that are read at once fit into memory.

    Args:
        max_message_bytes: Of one question; bodies have up to 16 times as much, for products and escapes.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self.most = _BODIES * max_message_bytes
        self._inside = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            HttpRefused: It is too large, compressed, or no JSON by its media type, or its end is ambiguous.
            Overloaded: Too many are being read.
        """
        # Some clients of Triton name none.
        given = request.headers.get("content-type", "application/json")
        media_type = given.partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise HttpRefused(
                f"content-type {media_type[:64]!r}; send application/json", status=415,
                headers={"accept": "application/json"},
            )  # fmt: skip
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            # A small body may inflate to a large one.
            raise HttpRefused("the body is compressed; send it as it is", status=415)
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # Something in front may take the other of the two, and see two requests in one.
            raise HttpRefused(
                "the body has a length and is in chunks; send one of the two", status=400,
                headers={"connection": "close"},
            )  # fmt: skip
        if not length.isdigit() or int(length[:12]) > self.most:
            raise self._too_large()
        return await self._chunks(request)

    async def _chunks(self, request: Request) -> bytes:
        body = bytearray()
        taken = 0
        try:
            async for chunk in request.stream():
                taken += len(chunk)
                self._inside += len(chunk)
                if taken > self.most:
                    raise self._too_large()
                if self._inside > _IN_MEMORY_BYTES:
                    raise Overloaded("too many large requests are being read; send it again")
                body += chunk
        finally:
            self._inside -= taken
        return bytes(body)

    def _too_large(self) -> HttpRefused:
        return HttpRefused(f"the body is larger than {self.most} bytes; send fewer products", status=413)


def decode(body: bytes, kind: type[Body]) -> Body:
    """Read a body as JSON of a type.

    Raises:
        HttpRefused: It is no JSON, or nested too deeply.
        InvalidRequest: It is other JSON; the message says where.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}; see /openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpRefused(f"the body is no JSON: {error}", status=400) from error
    except RecursionError as error:
        raise HttpRefused("the body is nested too deeply; send flat JSON", status=400) from error
