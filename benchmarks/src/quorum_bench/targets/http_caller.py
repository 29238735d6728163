# SPDX-License-Identifier: Apache-2.0
"""Ask over HTTP with bodies serialised beforehand, on open connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp

from quorum_bench.targets import CallerSpec
from quorum_bench.workload import Workload

_FACTORY = "quorum_bench.targets.http_caller:HttpCaller"
_UNAVAILABLE, _INTERNAL, _DEADLINE, _UNKNOWN = 14, 13, 4, 2


def http_caller(url: str, workload: Workload, timeout_s: float = 30.0) -> CallerSpec:
    """Return a caller of what takes ``{"text", "category", "attributes"}`` and returns ``{"values"}``."""
    bodies = [
        json.dumps({"text": p.text, "category": p.category, "attributes": p.attributes})
        for p in workload.products
    ]
    attributes = [len(p.attributes) for p in workload.products]
    return CallerSpec(
        _FACTORY, {"url": url, "bodies": bodies, "attributes": attributes, "timeout_s": timeout_s}
    )


class HttpCaller:
    """Caller over HTTP; parses every 64th answer and only checks that the others are not empty."""

    def __init__(self, url: str, bodies: Sequence[str], attributes: Sequence[int], timeout_s: float) -> None:
        self._url, self._timeout_s, self._attributes = url, timeout_s, attributes
        self._bodies = [body.encode() for body in bodies]
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect; ask the first question."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers={"Content-Type": "application/json"},
        )
        self._parse(0, await self.call(0))

    async def call(self, number: int) -> bytes:
        """Send bytes, return bytes: nothing is parsed while the clock runs."""
        assert self._session is not None
        body = self._bodies[number % len(self._bodies)]
        async with self._session.post(self._url, data=body) as response:
            response.raise_for_status()
            return await response.read()

    def check(self, number: int, answer: bytes) -> None:
        """Check that the answer is not empty; every 64th: a value per attribute."""
        if not answer:
            raise ValueError("an empty answer")
        if number % 64 == 0:
            self._parse(number, answer)

    def status_of(self, error: BaseException) -> int:
        """The gRPC code nearest to the error."""
        if isinstance(error, aiohttp.ClientResponseError):
            return _UNAVAILABLE if error.status in (429, 502, 503, 504) else _INTERNAL
        if isinstance(error, aiohttp.ClientError | ConnectionError):
            return _UNAVAILABLE
        return _DEADLINE if isinstance(error, asyncio.TimeoutError) else _UNKNOWN

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _parse(self, number: int, answer: bytes) -> None:
        try:
            data: Any = json.loads(answer)
            values = data["values"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self._url} returned {answer[:200]!r}") from error
        wanted = self._attributes[number % len(self._bodies)]
        if len(values) != wanted or not all(values):
            raise ValueError(f"{self._url} returned {values}, wanted {wanted} values")
