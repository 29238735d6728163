# SPDX-License-Identifier: Apache-2.0
"""An LLM in its worker stops within a step when its caller has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.deployment import Live, running, write_deployment

from quorum.serving.admission import admission_of
from quorum.serving.isolation import program
from quorum_client import AsyncClient, Extraction
from quorum_contract import Status

MODELS = Path(__file__).parents[2] / "examples" / "demo" / "models"
ASKED = tuple(f"attribute {number}" for number in range(24))
TEXT = "Velmora trail running shoes, navy, size 42, for men"
CALLERS = 6
PAUSE_S, TICKS_S = 0.3, 0.02


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    options: dict[str, Any] = {
        "model": str(MODELS / "demo-llama"),
        "max_new_tokens": 4_000,
        "threads": 1,
        "chat": False,
    }
    options["kv_cache_blocks"] = 1_000
    member = {"runtime": "openvino", "options": options, "timeout_s": 60}
    folder = tmp_path_factory.mktemp("llm")
    with running(write_deployment(folder, {"llm": member}, attributes={name: {} for name in ASKED})) as live:
        yield live


def worker_of(live: Live) -> psutil.Process:
    (worker,) = (
        process
        for process in psutil.Process(live.server.pid).children(recursive=True)
        if program.__name__ in process.cmdline()
    )
    return worker


def cpu_s(worker: psutil.Process) -> float:
    """CPU time of the worker so far, in seconds."""
    used = worker.cpu_times()
    return float(used.user + used.system)


def wait_for_cpu(worker: psutil.Process, total_s: float) -> None:
    while cpu_s(worker) < total_s:
        time.sleep(0.01)


async def ask(live: Live, run: str, give_up_after_s: float | None = None) -> float:
    """CPU time that a few callers cost; they cancel when the worker has spent as much as is given.

    A busy machine may see the CPU time late, after an answer or two: what counts is what is no longer spent.
    """
    worker = worker_of(live)
    before = cpu_s(worker)
    async with AsyncClient(live.url, timeout_s=60) as client:
        tasks = [asyncio.create_task(client.extract(f"{TEXT} {run} {n}", ASKED)) for n in range(CALLERS)]
        if give_up_after_s is not None:
            await asyncio.to_thread(wait_for_cpu, worker, before + give_up_after_s)
            for task in tasks:
                task.cancel()
        ended = [type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)]
    assert set(ended) <= {Extraction, asyncio.CancelledError}
    assert ended.count(asyncio.CancelledError) >= (0 if give_up_after_s is None else CALLERS // 2)
    last = -1.0
    while (now := cpu_s(worker)) > last + TICKS_S:
        last = now
        await asyncio.sleep(PAUSE_S)
    return now - before


def test_an_llm_stops_with_its_callers(live: Live) -> None:
    assert live.server.pid is not None
    whole_s = asyncio.run(ask(live, "whole"))
    part_s = asyncio.run(ask(live, "part", whole_s / 10))
    assert part_s < whole_s / 2
    assert admission_of(live.server.pid).inside(time.monotonic_ns()) == 0
    assert live.ask(TEXT, ASKED).votes["llm"][0][1] == Status.ANSWERED
