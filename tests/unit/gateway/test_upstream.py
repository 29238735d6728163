# SPDX-License-Identifier: Apache-2.0
"""Several servers of one name get calls in turn, and calls keep their places: by servers that only count."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from quorum.gateway.upstream import INFER, SERVICE, Upstream
from quorum_client.errors import DeadlineExceeded, Overloaded, Unavailable

HEADER = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")


class Counting(grpc.GenericRpcHandler):
    """Counts the calls of ``ModelInfer``, and keeps the headers of the last."""

    def __init__(self) -> None:
        self.calls = 0
        self.headers: dict[str, Any] = {}
        self.free: asyncio.Event | None = None

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != f"{SERVICE}{INFER}":
            return None

        async def answer(_: bytes, context: Any) -> bytes:
            self.calls += 1
            self.headers = dict(context.invocation_metadata())
            if self.free:
                await self.free.wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def _serve() -> tuple[Counting, Any, int]:
    counting, server = Counting(), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((counting,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return counting, server, port


def test_several_servers_of_one_name_get_calls_in_turn_and_one_that_ends_gets_none() -> None:
    async def run() -> None:
        (one, first, a), (two, second, b) = await _serve(), await _serve()
        async with Upstream(f"ipv4:127.0.0.1:{a},127.0.0.1:{b}", 8, 30.0, 60.0) as upstream:

            async def ask() -> None:
                await upstream.call(INFER, b"", 30.0, waits=True, headers=(HEADER,))

            async with asyncio.timeout(60):
                # The second connection may be ready later.
                while not (one.calls and two.calls):
                    await ask()
            before = one.calls, two.calls
            for _ in range(10):
                await ask()
            assert (one.calls - before[0], two.calls - before[1]) == (5, 5)
            assert one.headers[HEADER[0]] == two.headers[HEADER[0]] == HEADER[1]
            await first.stop(None)
            before = one.calls, two.calls
            for _ in range(4):
                await ask()
            assert (one.calls - before[0], two.calls - before[1]) == (0, 4)
            await second.stop(None)
            with pytest.raises(Unavailable):
                # No connection: no member was asked.
                await upstream.call(INFER, b"", 1.0, waits=True)

    asyncio.run(run())


def test_calls_whose_deadline_passed_keep_their_places_until_they_end() -> None:
    async def run() -> None:
        held, server, port = await _serve()
        held.free = asyncio.Event()
        async with Upstream(f"127.0.0.1:{port}", 2, 0.0, 60.0) as upstream:
            for _ in range(2):
                with pytest.raises(DeadlineExceeded):
                    await upstream.call(INFER, b"", 0.01)
            with pytest.raises(Overloaded):
                await upstream.call(INFER, b"", 0.01)
            with pytest.raises(DeadlineExceeded):
                # Health is asked without a place.
                await upstream.look(INFER, b"", 0.01)
            held.free.set()
            async with asyncio.timeout(60):
                while upstream._inside:  # noqa: ASYNC110  (calls have no event)
                    await asyncio.sleep(0.01)
            assert await upstream.call(INFER, b"", 30.0) == b""
        await server.stop(None)

    asyncio.run(run())
