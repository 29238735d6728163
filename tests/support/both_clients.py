# SPDX-License-Identifier: Apache-2.0
"""One surface over the blocking client and the one for asyncio, and refusals that a server gives."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

import quorum_client as qc

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
FULL = (UNAVAILABLE, "in ensemble 'quorum', 5 requests are being answered; retry later [quorum:OVERLOADED]")


class Blocking:
    """One surface over both clients, so that every test runs against each."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.client = qc.Client(url, **settings)

    def extract(self, *args: Any, **kwargs: Any) -> qc.Extraction:
        with self.client as client:
            return client.extract(*args, **kwargs)

    def many(self, items: Any, **kwargs: Any) -> list[Any]:
        with self.client as client:
            return list(client.extract_many(items, **kwargs))

    def as_completed(self, items: Any, **kwargs: Any) -> list[Any]:
        with self.client as client:
            return list(client.extract_as_completed(items, **kwargs))

    def is_ready(self, *args: Any, **kwargs: Any) -> bool:
        with self.client as client:
            return client.is_ready(*args, **kwargs)


class Asyncio:
    def __init__(self, url: str, **settings: Any) -> None:
        self.client = qc.AsyncClient(url, **settings)

    def extract(self, *args: Any, **kwargs: Any) -> qc.Extraction:
        async def go() -> qc.Extraction:
            async with self.client as client:
                return await client.extract(*args, **kwargs)

        return asyncio.run(go())

    def many(self, items: Any, **kwargs: Any) -> list[Any]:
        async def go() -> list[Any]:
            async with self.client as client:
                return [result async for result in client.extract_many(items, **kwargs)]

        return asyncio.run(go())

    def as_completed(self, items: Any, **kwargs: Any) -> list[Any]:
        async def go() -> list[Any]:
            async with self.client as client:
                return [found async for found in client.extract_as_completed(items, **kwargs)]

        return asyncio.run(go())

    def is_ready(self, *args: Any, **kwargs: Any) -> bool:
        async def go() -> bool:
            async with self.client as client:
                return await client.is_ready(*args, **kwargs)

        return asyncio.run(go())


def urls(*servers: Any) -> list[str]:
    """Their addresses."""
    return [server.url for server in servers]
