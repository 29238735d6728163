# SPDX-License-Identifier: Apache-2.0
"""Send requests to a target in an open or a closed loop.

In the **open loop** requests are sent at times fixed beforehand, whatever the target does, and latency
counts from the intended time. A target that stalls for a second therefore shows it in the latency of all
requests due in that second; a generator that waits for answers before it sends again would leave those out
(*coordinated omission*, Gil Tene, "How NOT to Measure Latency", 2013). In the **closed loop** a fixed
number of callers each send again as soon as they have an answer: it measures the most that a target can do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from quorum_bench.samples import NOT_SENT, UNANSWERED
from quorum_bench.ticker import Clock

Call = Callable[[int], Awaitable[tuple[int, int]]]
"""Sends the k-th request: its status and when that was known (ns). Raises nothing."""

Row = tuple[int, int, int, int, int]
"""Request number, intended, sent, done (ns), status: a row of :class:`quorum_bench.samples.Samples`."""


async def closed(call: Call, clock: Clock, callers: Sequence[int], stride: int, stop_ns: int) -> list[Row]:
    """Keep one request in flight for each of ``callers`` until ``stop_ns``.

    Args:
        call: Sends a request.
        clock: The clock.
        callers: Number of each caller's first request.
        stride: Added for its next request: the callers of all generators.
        stop_ns: End of sending; requests in flight are waited for.
    """
    rows: list[Row] = []

    async def caller(first: int) -> None:
        number = first
        while (sent := clock.now_ns()) < stop_ns:
            status, done = await call(number)
            rows.append((number, sent, sent, done, status))
            number += stride

    await asyncio.gather(*map(caller, callers))
    return rows


async def opened(
    call: Call,
    clock: Clock,
    arrivals_ns: Sequence[int],
    *,
    most_in_flight: int = 4096,
    patience_s: float = 30.0,
) -> list[Row]:
    """Send a request at each of ``arrivals_ns``, however many are still in flight.

    Args:
        call: Sends a request.
        clock: The clock.
        arrivals_ns: Intended times on ``clock``, ascending.
        most_in_flight: Beyond it a request is recorded as ``NOT_SENT``, never left out.
        patience_s: Wait for answers after the last arrival; then ``UNANSWERED``.
    """
    rows: list[Row] = []
    flying: dict[asyncio.Task[None], tuple[int, int, int]] = {}

    async def send(number: int, intended: int, sent: int) -> None:
        status, done = await call(number)
        rows.append((number, intended, sent, done, status))

    for number, intended in enumerate(arrivals_ns):
        await clock.until(intended)
        sent = clock.now_ns()
        if len(flying) >= most_in_flight:
            rows.append((number, intended, sent, sent, NOT_SENT))
            # Answers must be read even while requests are late.
            await asyncio.sleep(0)
            continue
        task = asyncio.create_task(send(number, intended, sent))
        flying[task] = (number, intended, sent)
        task.add_done_callback(flying.pop)
        # Starts the task now, and lets answers in while requests are late.
        await asyncio.sleep(0)
    if flying:
        _, late = await asyncio.wait(list(flying), timeout=patience_s)
        given_up = clock.now_ns()
        lost = [(*flying[task], given_up, UNANSWERED) for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        rows.extend(lost)
    return rows
