# SPDX-License-Identifier: Apache-2.0
"""Connections that nobody uses are closed, and those in use are replaced without a failed call."""

from __future__ import annotations

import asyncio
import os
import resource
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.deployment import ATTRIBUTES, FREE_PORTS, title, write_deployment
from support.gateway import KEY, Guarded, guarded, idle_connections, is_closed

from quorum.operations.probe import probes_of
from quorum.server.exposure import INFERENCE_KEY_VARIABLE
from quorum_client import AsyncClient, Client

AGE_S = 1.0
LONG = bool(os.environ.get("QUORUM_LONG"))
ROUNDS = 30 if LONG else 5
CALLERS = 7
IDLE = 2_000 if LONG else 1_100
"""More than the files that a process may open by default."""
EVERY_S = 0.2
SERVER = {**FREE_PORTS, "connection_age_s": AGE_S}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(write_deployment(tmp_path_factory.mktemp("aged"), {"alpha": {}}, server=SERVER)) as found:
        yield found


def connections_to(pid: int, port: int) -> set[int]:
    """Ports of the peers that a process has open connections with on one of its ports."""
    found = psutil.Process(pid).net_connections("tcp")
    return {c.raddr.port for c in found if c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port}


@pytest.mark.parametrize("where", ["server", "gateway"])
def test_callers_see_nothing_of_connections_that_are_replaced(behind: Guarded, where: str) -> None:
    live = behind.live
    url, pid = (live.url, live.server.pid) if where == "server" else (behind.url, behind.gateway.pid)
    assert pid
    port, used, answered = int(url.rpartition(":")[2]), set[int](), 0
    before = connections_to(pid, port)

    async def call(every_s: float) -> None:
        nonlocal answered
        async with AsyncClient(url, key=KEY, retries=False) as client:
            while time.monotonic() < end:
                await client.extract(title(0), ATTRIBUTES)
                answered += 1
                await asyncio.sleep(every_s)

    async def look() -> None:
        while time.monotonic() < end:
            used.update(connections_to(pid, port) - before)
            await asyncio.sleep(0.2)

    async def run() -> None:
        await asyncio.gather(look(), call(EVERY_S), *[call(EVERY_S / 4) for _ in range(CALLERS)])

    end = time.monotonic() + ROUNDS * AGE_S
    asyncio.run(run())
    assert answered > ROUNDS * (CALLERS + 1)
    # They share one connection at a time, as all clients of a process do.
    assert len(used) >= ROUNDS // 2


@pytest.mark.parametrize("where", ["server", "gateway"])
def test_idle_connections_harm_nobody_and_are_closed(
    behind: Guarded, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INFERENCE_KEY_VARIABLE, KEY)
    url = behind.live.url if where == "server" else behind.url
    host, _, port = url.rpartition(":")
    with probes_of(behind.live.server, 0) as probes:
        idle = idle_connections(host, int(port), IDLE)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}/ready", timeout=30) as answer:
                assert answer.status == 200
            with Client(url, key=KEY, retries=False) as client:
                client.extract(title(0), ATTRIBUTES)
            end = time.monotonic() + 60
            while not all(map(is_closed, idle)):
                assert time.monotonic() < end, f"{sum(not is_closed(sock) for sock in idle)} are open"
                time.sleep(0.2)
        finally:
            for sock in idle:
                sock.close()


def test_the_gateway_does_not_wait_for_those_who_say_nothing(behind: Guarded) -> None:
    host, _, port = behind.url.rpartition(":")
    silent = idle_connections(host, int(port), 20, b"")
    try:
        end = time.monotonic() + 60
        while not all(map(is_closed, silent)):
            assert time.monotonic() < end
            time.sleep(0.2)
    finally:
        for sock in silent:
            sock.close()


@pytest.fixture
def few_files() -> Iterator[int]:
    """A soft limit as shells have one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_server_and_gateway_may_open_as_many_files_as_is_allowed(tmp_path: Path, few_files: int) -> None:
    with guarded(write_deployment(tmp_path, {"alpha": {}})) as found:
        for pid in (found.live.server.pid, found.gateway.pid):
            assert pid
            assert psutil.Process(pid).rlimit(resource.RLIMIT_NOFILE)[0] == min(few_files, 1 << 20)
