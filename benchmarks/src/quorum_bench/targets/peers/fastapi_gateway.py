# SPDX-License-Identifier: Apache-2.0
"""Ask all members at once and count their votes: the gateway. SIGHUP restarts its workers one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from shared import Settings, Vote

WORKERS = 2

settings = Settings.read()
urls = [f"http://127.0.0.1:{settings.ports[name]}/answer" for name in settings.members]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool of connections and one set of weights for the life of a worker."""
    app.state.vote = Vote.read(settings.weights)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    """A request."""

    text: str
    category: str
    attributes: list[str]


class Answer(BaseModel):
    """The decision."""

    values: list[str]
    confidence: list[float]
    member_values: list[list[str]]
    weights_version: int


@app.post("/answer")
async def answer(question: Question, request: Request) -> Answer:
    """Ask all members, count their votes."""
    body = question.model_dump()
    session: aiohttp.ClientSession = request.app.state.session

    async def ask(url: str) -> list[str]:
        async with session.post(url, json=body) as response:
            response.raise_for_status()
            values: list[str] = (await response.json())["values"]
            return values

    votes = await asyncio.gather(*map(ask, urls))
    decided: dict[str, Any] = request.app.state.vote.answer(votes)
    return Answer(**decided)


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_gateway:app",
        host="127.0.0.1",
        port=settings.ports["gateway"],
        workers=WORKERS,
        log_level="warning",
        access_log=False,
    )
