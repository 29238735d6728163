# SPDX-License-Identifier: Apache-2.0
"""Send one request to one endpoint, and read its answer as it comes in."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from quorum.runtimes.base import Reply, Unsent
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.remote.address import chat_url, shown
from quorum.runtimes.remote.answer import Answer
from quorum.runtimes.remote.dialect import Dialect, Guidance
from quorum.runtimes.remote.endpoint import End, Ending
from quorum.runtimes.remote.key import Key, KeySource
from quorum.runtimes.remote.retry_after import retry_after_s
from quorum.runtimes.remote.sse import MAX_EVENT_BYTES, Events
from quorum.runtimes.remote.wire import read_chunk
from quorum_contract import Status

logger = logging.getLogger(__name__)

_CONNECT_S, _WRITE_S, _IDLE_S = 5.0, 10.0, 30.0
_USAGE_S, _ERROR_S = 0.5, 0.5
_ERROR_BYTES, _SHOWN_CHARS = 4096, 200
_OF_THE_QUESTION = frozenset({400, 413, 422})
_OF_LOAD = frozenset({429})
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.InvalidURL)
"""Errors before a request is sent: the endpoint was not reached."""
_DONE = b"[DONE]"
_HEADERS = {
    "content-type": "application/json",
    "accept": "text/event-stream, application/json",
    # A few compressed bytes can stand for gigabytes.
    "accept-encoding": "identity",
}


class Asked(NamedTuple):
    """What is asked.

    Attributes:
        prompt: The text.
        schema: JSON schema of the answer.
        prompt_tokens: Estimate.
        deadline: By :func:`time.monotonic`.
    """

    prompt: str
    schema: Mapping[str, Any]
    prompt_tokens: int
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds to the deadline; negative after it."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    Attributes:
        end: How it ended.
        reply: Text, or the status of the abstention if it is not asked again.
        problem: What went wrong, for people, without the key; "" where nothing did.
    """

    end: End
    reply: Reply
    problem: str = ""


def new_client(options: OpenAiOptions, root: Path) -> httpx2.AsyncClient:
    """Connections for all endpoints: kept open, HTTP/2 where offered, without cookies.

    No proxy or key of the environment is used.
    """
    # At level DEBUG they log headers, with the key.
    for name in ("httpx2", "httpcore2", "hpack", "h2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    verify: ssl.SSLContext | bool = True
    if options.ca_file is not None:
        verify = ssl.create_default_context(cafile=str(root / options.ca_file))
    most = options.max_concurrency * len(options.base_urls)
    return httpx2.AsyncClient(
        http2=True,
        verify=verify,
        proxy=options.proxy,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        timeout=httpx2.Timeout(connect=_CONNECT_S, read=None, write=_WRITE_S, pool=None),
        limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=_IDLE_S),
    )


class Exchange:
    """Requests to one endpoint.

    Attributes:
        dialect: What it is sent, learned from what it refuses and how it answers.
    """

    def __init__(self, client: httpx2.AsyncClient, options: OpenAiOptions, url: str, keys: KeySource) -> None:
        self._client, self._options, self._url, self._keys = client, options, url, keys
        self.dialect = Dialect(Guidance.SCHEMA if options.guided else Guidance.NONE, options.scores)

    async def ask(self, asked: Asked, counted: Callable[[], None]) -> Outcome:
        """Send a request and read the answer; cancel it to close the stream.

        Args:
            asked: The question.
            counted: Called when the answer begins.
        """
        version, body = self.dialect.version, self._body(asked)
        headers = {**_HEADERS}
        key = self._keys.key
        if key is not None:
            headers["authorization"] = key.header()
        try:
            async with self._client.stream(
                "POST", chat_url(self._url), content=body, headers=headers
            ) as response:
                counted()
                if response.status_code != 200:
                    return self._clean(await self._refused(response, asked, version, key), key)
                return self._clean(await self._answered(response, asked), key)
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            failed = self._clean(_failed(f"{type(error).__name__}: {error}"), key)
            return replace(failed, reply=Unsent(Status.ERROR)) if isinstance(error, _UNSENT) else failed

    def _body(self, asked: Asked) -> bytes:
        options = self._options
        fields = {
            "model": options.model,
            "messages": [{"role": "user", "content": asked.prompt}],
            "stream": True,
            **self.dialect.fields(asked.schema, options.max_tokens, options.seed),
            **options.extra_body,
        }
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")

    async def _answered(self, response: httpx2.Response, asked: Asked) -> Outcome:
        answer = Answer(asked.schema["required"])
        try:
            problem = await _read(response, answer)
        except ValueError as error:
            problem = f"its answer cannot be read: {error}"
        if problem and not answer.is_complete:
            return _failed(problem)
        if not answer.has_choice:
            return _failed("it answered without choices")
        usage = answer.usage
        tokens = usage.prompt_tokens + usage.answer_tokens if usage else None
        end = End(Ending.ANSWERED, tokens=tokens)
        if answer.refused or answer.finish == "content_filter":
            return Outcome(end, Status.UNPARSABLE, "it refused to answer")
        self._learn(answer, asked)
        return Outcome(end, answer.generated(self._options.scores, asked.prompt_tokens))

    def _learn(self, answer: Answer, asked: Asked) -> None:
        dialect = self.dialect
        if dialect.scores and answer.text:
            dialect.offers_scores = answer.has_scores or bool(dialect.offers_scores)
        is_cut = answer.finish == "length"
        is_whole = answer.finish == "stop" or answer.is_enough
        if (is_cut or is_whole) and dialect.answered(answer.text, asked.schema, is_cut):
            logger.warning(
                "%s ignores JSON schemas: answers are read as they come, and the stream is closed behind the"
                " JSON object", shown(self._url),
            )  # fmt: skip

    async def _refused(
        self, response: httpx2.Response, asked: Asked, version: int, key: Key | None
    ) -> Outcome:
        status, error = response.status_code, await _start_of(response)
        text = key.redact(error) if key else error
        problem = f"HTTP {status}: {text}"[:_SHOWN_CHARS] if text else f"HTTP {status}"
        wait_s = retry_after_s({name.lower(): value for name, value in response.headers.items()})
        if status in _OF_LOAD or (status == 503 and wait_s is not None):
            return Outcome(End(Ending.OVERLOADED, wait_s), Status.OVERLOADED, problem)
        if status in _OF_THE_QUESTION:
            ending = Ending.TAUGHT if self.dialect.version != version else Ending.UNUSABLE
            if ending is Ending.UNUSABLE and (changed := self.dialect.refuses(error, asked.prompt)):
                ending = Ending.TAUGHT
                logger.warning(
                    "%s refuses %s, and is not sent it again (%s)", shown(self._url), changed, problem
                )
            return Outcome(End(ending), Status.ERROR, problem)
        if status == 401:
            self._keys.refresh()
        if 300 <= status < 400:
            problem = f"HTTP {status}: it redirects, and a key is sent to no other host; set `base_url` to it"
        return Outcome(End(Ending.FAILED, wait_s), Status.ERROR, problem)

    def _clean(self, outcome: Outcome, key: Key | None) -> Outcome:
        """Without the key, and only then shortened: a part of a key is not found so easily."""
        problem = key.redact(outcome.problem) if key else outcome.problem
        return replace(outcome, problem=problem[:_SHOWN_CHARS])


def _failed(problem: str) -> Outcome:
    return Outcome(End(Ending.FAILED), Status.ERROR, problem)


async def _read(response: httpx2.Response, answer: Answer) -> str:
    """Read an answer, streamed or whole; returns what is wrong with it."""
    if "text/event-stream" not in response.headers.get("content-type", ""):
        return _add(answer, await _whole(response))
    try:
        async with asyncio.timeout(None) as left:
            return await _read_stream(response, answer, left)
    except TimeoutError:
        return ""


async def _read_stream(response: httpx2.Response, answer: Answer, left: asyncio.Timeout) -> str:
    """Read events; an answer that has ended waits for the tokens used, but not for long."""
    events = Events()
    async for received in response.aiter_raw():
        for data in events.add(received):
            if data == _DONE:
                return ""
            if problem := _add(answer, data):
                return problem
            if answer.is_enough:
                return ""
            if (answer.is_complete or answer.finish) and left.when() is None:
                left.reschedule(asyncio.get_running_loop().time() + _USAGE_S)
    for data in events.end():
        if data != _DONE and (problem := _add(answer, data)):
            return problem
    return "" if answer.finish else "its stream was cut off"


def _add(answer: Answer, data: bytes) -> str:
    chunk = read_chunk(data)
    if chunk.problem:
        return f"its answer failed: {chunk.problem[:_ERROR_BYTES]}"
    answer.add(chunk)
    return ""


async def _whole(response: httpx2.Response) -> bytes:
    body = b""
    async for received in response.aiter_raw():
        body += received
        if len(body) > MAX_EVENT_BYTES:
            raise ValueError(f"more than {MAX_EVENT_BYTES} bytes")
    return body


async def _start_of(response: httpx2.Response) -> str:
    """The first bytes of an error, as text without control characters."""
    body = b""
    # The status says what matters; a body that does not come must not hide it.
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(_ERROR_S):
            async for received in response.aiter_raw():
                body += received
                if len(body) >= _ERROR_BYTES:
                    break
    text = body[:_ERROR_BYTES].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
