# SPDX-License-Identifier: Apache-2.0
"""The client against servers that are killed and started again, and against one of unknown capacity."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.deployment import ATTRIBUTES, Live, running, said, title, write_deployment
from support.supervised import Supervised, supervised, until

from quorum.serving.admission import admission_of
from quorum_client import AsyncClient, Client, Disconnected, Extraction, Item, QuorumError

LOG = logging.getLogger(__name__)
LONG = bool(os.environ.get("QUORUM_LONG"))
THINK_S, DEADLINE_S = 0.5, 30.0
# A busy machine may take a minute to start a server.
SOON_S = 90.0
KILL_EVERY_S, KILLS_LAST_S, CALLERS = 20.0, 180.0, 4
NUMBERS = (1, 2, 4, 8, 16, 32, 64)
MEASURED_S, SEARCHED_S = 8.0, 40.0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """A server that is started again whenever it ends; its member takes half a second."""
    folder = tmp_path_factory.mktemp("restarted")
    slow = {"latency_ms": THINK_S * 1e3, "latency_shape": "constant"}
    write_deployment(folder, {"alpha": {"options": slow}})
    with supervised(folder) as up:
        yield up


def url(up: Supervised) -> str:
    return up.running.endpoint.grpc_url


def wait_until_asked(up: Supervised, calls: int) -> None:
    gate = admission_of(up.running.pid)
    until(lambda: gate.inside(time.monotonic_ns()) == calls)


def wait_ready(up: Supervised) -> None:
    with Client(url(up)) as client:
        until(client.is_ready, SOON_S)


async def outcome(client: AsyncClient, number: int) -> Extraction | QuorumError:
    try:
        return await client.extract(title(2 * number % 24), ATTRIBUTES)
    except QuorumError as error:
        return error


def test_calls_outlive_their_server_where_the_caller_wants_it(up: Supervised, steady: Live) -> None:
    wait_ready(up)

    async def run() -> None:
        both = AsyncClient([url(up), steady.url], timeout_s=SOON_S, resend=True)
        patient = AsyncClient(url(up), timeout_s=SOON_S, wait_for_ready=True, resend=True)
        plain = AsyncClient(url(up), timeout_s=SOON_S)
        async with both, patient, plain:
            first, _ = both._connection.servers.all
            waiting, lost, moved = (
                [asyncio.create_task(outcome(client, number)) for number in range(2)]
                for client in (patient, plain, both)
            )
            # One of the calls of `both` went to the other server.
            await asyncio.to_thread(wait_until_asked, up, 5)
            up.strike("server", signal.SIGKILL)
            check(await asyncio.gather(*moved))
            assert first.away_until
            check(await asyncio.gather(*waiting))
            assert {type(result) for result in await asyncio.gather(*lost)} == {Disconnected}
            # Calls are what has a client ask whether a server is back.
            end = time.monotonic() + SOON_S
            while first.away_until:
                assert time.monotonic() < end
                check([await outcome(both, 0)])
                await asyncio.sleep(0.05)
            calls = [asyncio.create_task(outcome(both, number)) for number in range(2)]
            await asyncio.to_thread(wait_until_asked, up, 1)
            check(await asyncio.gather(*calls))

    asyncio.run(run())


def check(results: Sequence[Extraction | QuorumError]) -> None:
    """All are answered, and right."""
    for number, result in enumerate(results):
        assert isinstance(result, Extraction), result
        assert result["color"].value == said(0, 2 * number, "color")


@pytest.mark.skipif(not LONG, reason="3 minutes; QUORUM_LONG=1 runs it")
@pytest.mark.timeout(400)
def test_no_call_is_lost_over_a_server_that_is_killed_every_20_seconds(up: Supervised) -> None:
    wait_ready(up)
    answered, lost, kills = list[float](), list[QuorumError](), 0

    async def call(client: AsyncClient, caller: int) -> None:
        number = caller
        while time.monotonic() < end:
            result = await outcome(client, number)
            if isinstance(result, QuorumError):
                lost.append(result)
            else:
                answered.append(result.latency_s)
            number += CALLERS

    async def kill() -> None:
        nonlocal kills
        while time.monotonic() + KILL_EVERY_S < end:
            await asyncio.sleep(KILL_EVERY_S)
            await asyncio.to_thread(up.strike, "server", signal.SIGKILL)
            kills += 1

    async def run() -> None:
        async with AsyncClient(url(up), timeout_s=DEADLINE_S, wait_for_ready=True, resend=True) as client:
            await asyncio.gather(kill(), *(call(client, caller) for caller in range(CALLERS)))

    end = time.monotonic() + KILLS_LAST_S
    asyncio.run(run())
    slowest_s = max(answered)
    LOG.info("%d answered, %d lost, %d kills, slowest %.1f s", len(answered), len(lost), kills, slowest_s)
    assert not lost
    assert kills >= 8
    assert slowest_s > 1, "some waited for the server"


@pytest.mark.skipif(not LONG, reason="100 s; QUORUM_LONG=1 runs it")
@pytest.mark.timeout(400)
def test_the_search_for_the_calls_in_flight_comes_near_the_best_fixed_number(tmp_path: Path) -> None:
    think = {"options": {"latency_ms": 20, "latency_shape": "constant"}}

    def items() -> Iterator[Item]:
        number = 0
        while True:
            yield Item(title(number % 24), ATTRIBUTES)
            number += 1

    async def rate(client: AsyncClient, concurrency: int | str, after_s: float) -> float:
        """Answers per second in the time measured, which begins so many seconds after the start."""
        start = time.monotonic() + after_s
        answers = 0
        results = client.extract_as_completed(items(), concurrency=concurrency)  # type: ignore[arg-type]
        async for _, result in results:
            assert isinstance(result, Extraction), result
            now = time.monotonic()
            answers += now >= start
            if now >= start + MEASURED_S:
                await results.aclose()  # type: ignore[attr-defined]
                return answers / (now - start)
        raise AssertionError("the items ended")

    async def run(live: Live) -> tuple[dict[int, float], float]:
        async with AsyncClient(live.url) as client:
            fixed = {number: await rate(client, number, 1.0) for number in NUMBERS}
            found = await rate(client, "auto", SEARCHED_S)
            best = max(fixed, key=lambda number: fixed[number])
            # The machine may have become busier, or less busy, meanwhile.
            fixed[best] = (fixed[best] + await rate(client, best, 1.0)) / 2
            return fixed, found

    with running(write_deployment(tmp_path, {"alpha": think, "beta": think})) as live:
        fixed, found = asyncio.run(run(live))
    LOG.info("answers per second: %s, searched %.1f", fixed, found)
    assert found >= 0.9 * max(fixed.values())
