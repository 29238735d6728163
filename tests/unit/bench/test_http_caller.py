# SPDX-License-Identifier: Apache-2.0
"""The HTTP caller against a server that answers well, badly, and not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from quorum_bench.targets.http_caller import HttpCaller, http_caller
from quorum_bench.workload import Workload

WORKLOAD = Workload.made(attributes=2, products=3)


def asked(answer: Any, status: int, work: Callable[[HttpCaller, list[Any]], Awaitable[None]]) -> None:
    """Run ``work`` with a caller of a server that gives this answer and notes what it was asked."""
    questions: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        questions.append(await request.json())
        return web.json_response(answer, status=status)

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/answer", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        caller = HttpCaller(**http_caller(f"http://127.0.0.1:{port}/answer", WORKLOAD).settings)
        try:
            await work(caller, questions)
        finally:
            await caller.close()
            await runner.cleanup()

    asyncio.run(main())


def test_asks_the_products_in_turn() -> None:
    async def work(caller: HttpCaller, questions: list[Any]) -> None:
        await caller.open()
        for number in range(4):
            caller.check(number, await caller.call(number))
        assert [q["text"] for q in questions[1:]] == [WORKLOAD.products[i % 3].text for i in range(4)]
        assert questions[0]["attributes"] == list(WORKLOAD.products[0].attributes)

    asked({"values": ["a", "b"]}, 200, work)


@pytest.mark.parametrize("answer", [{"values": ["a"]}, {"values": ["a", ""]}, {"detail": "no"}, [1]])
def test_an_answer_that_is_not_whole_ends_the_run(answer: Any) -> None:
    async def work(caller: HttpCaller, questions: list[Any]) -> None:
        with pytest.raises(ValueError, match="returned"):
            await caller.open()

    asked(answer, 200, work)


@pytest.mark.parametrize(("status", "code"), [(503, 14), (429, 14), (500, 13), (422, 13)])
def test_failures_have_the_nearest_grpc_code(status: int, code: int) -> None:
    async def work(caller: HttpCaller, questions: list[Any]) -> None:
        with pytest.raises(Exception, match=str(status)) as error:
            await caller.open()
        assert caller.status_of(error.value) == code

    asked({}, status, work)


def test_nobody_there_is_unavailable() -> None:
    async def main() -> None:
        caller = HttpCaller(**http_caller("http://127.0.0.1:9/answer", WORKLOAD).settings)
        with pytest.raises(OSError) as error:
            await caller.open()
        assert caller.status_of(error.value) == 14
        assert caller.status_of(TimeoutError()) == 4
        await caller.close()

    asyncio.run(main())
