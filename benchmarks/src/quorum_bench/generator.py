# SPDX-License-Identifier: Apache-2.0
"""Put load on a target, as a process: ``python -m quorum_bench.generator JOB.json OUT.npz``.

It prints ``ready`` when it is connected, reads the start time (monotonic ns) from standard input, and writes
its samples with the CPU time spent on them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from quorum_bench.loops import Call, Row, closed, opened
from quorum_bench.samples import BAD_ANSWER, OK, Samples
from quorum_bench.targets import Caller
from quorum_bench.ticker import Clock, Ticker


def main(job_path: Path, out_path: Path) -> None:
    """Run a job of :mod:`quorum_bench.load`."""
    job = json.loads(job_path.read_text("utf-8"))
    rows, took, start_ns, stop_ns, cpu_ns = asyncio.run(_run(job))
    samples = Samples.of(rows)
    columns = {f.name: getattr(samples, f.name) for f in fields(Samples)}
    np.savez(out_path, own=np.array([start_ns, stop_ns, cpu_ns], np.int64), took=np.array(took), **columns)


async def _run(job: dict[str, Any]) -> tuple[list[Row], list[float], int, int, int]:
    module, _, name = job["factory"].partition(":")
    caller: Caller = getattr(importlib.import_module(module), name)(**job["settings"])
    ticker = Ticker()
    try:
        await caller.open()
        print("ready", flush=True)  # noqa: T201  (the protocol with the parent)
        start_ns = int(await asyncio.to_thread(sys.stdin.readline))
        gc.collect()
        gc.disable()
        await ticker.until(start_ns)
        cpu = time.process_time_ns()
        rows = await _load(job, _guarded(caller, ticker), ticker, start_ns)
        took = getattr(caller, "took", [0.0, 0.0, 0.0])
        return rows, took, start_ns, time.monotonic_ns(), time.process_time_ns() - cpu
    finally:
        await caller.close()
        ticker.close()


async def _load(job: dict[str, Any], call: Call, ticker: Ticker, start_ns: int) -> list[Row]:
    if job["kind"] == "closed":
        return await closed(call, ticker, job["callers"], job["stride"], start_ns + job["duration_ns"])
    arrivals = (np.load(job["arrivals"]) + start_ns).tolist()
    return await opened(call, ticker, arrivals, patience_s=job["patience_s"])


def _guarded(caller: Caller, clock: Clock) -> Call:
    """Wrap calls to return a status instead of raising; the time is taken before the answer is checked."""

    async def call(number: int) -> tuple[int, int]:
        try:
            answer = await caller.call(number)
        except Exception as error:
            return caller.status_of(error), clock.now_ns()
        done = clock.now_ns()
        try:
            caller.check(number, answer)
        except ValueError:
            return BAD_ANSWER, done
        return OK, done

    return call


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
