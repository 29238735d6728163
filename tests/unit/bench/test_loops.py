# SPDX-License-Identifier: Apache-2.0
"""The load loops in simulated time: what a stalled server looks like from an open and from a closed loop."""

from __future__ import annotations

import asyncio
import selectors

import numpy as np
import pytest

from quorum_bench.arrivals import poisson
from quorum_bench.loops import closed, opened
from quorum_bench.samples import NOT_SENT, OK, UNANSWERED, Samples

MS, S = 1_000_000, 1_000_000_000


class _Jump(selectors.SelectSelector):
    """Waiting takes no time: the simulated clock jumps to where the wait would have ended."""

    now_s = 0.0

    def select(self, timeout=None):
        if timeout and not (ready := super().select(0)):
            self.now_s += timeout
            return ready
        return super().select(timeout)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self):
        return self._jump.now_s


class SimulatedClock:
    def now_ns(self):
        return round(asyncio.get_running_loop().time() * S)

    async def until(self, when_ns):
        await asyncio.sleep(max(0, when_ns - self.now_ns()) / S)


class Server:
    """One request at a time, 1 ms each, and nothing at all between two moments."""

    def __init__(self, clock, stall_ns=(0, 0), service_ns=MS):
        self.clock, self.stall_ns, self.service_ns = clock, stall_ns, service_ns
        self.line = asyncio.Lock()

    async def call(self, number):
        async with self.line:
            start, end = self.stall_ns
            if start <= self.clock.now_ns() < end:
                await self.clock.until(end)
            await self.clock.until(self.clock.now_ns() + self.service_ns)
        return OK, self.clock.now_ns()


def simulate(work):
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return Samples.of(runner.run(work()))


def percentile(samples, q):
    return float(np.percentile(samples.latency_ms, q))


def test_an_open_loop_shows_a_stall_to_all_who_would_have_come_in_it():
    async def work():
        clock = SimulatedClock()
        server = Server(clock, (1 * S, 2 * S))
        return await opened(server.call, clock, range(0, 3 * S, 5 * MS))

    samples = simulate(work)
    assert len(samples) == 600
    # 200 of the 600 were meant to be sent in the stalled second; they and those behind them waited.
    waited = np.count_nonzero(samples.latency_ms > 1.5)
    assert 200 <= waited <= 260
    assert percentile(samples, 99) == pytest.approx(1000, rel=0.05)
    assert percentile(samples, 50) == pytest.approx(1, abs=0.01)


def test_a_closed_loop_hides_it_in_one_request():
    async def work():
        clock = SimulatedClock()
        server = Server(clock, (1 * S, 2 * S))
        return await closed(server.call, clock, [0], 1, 3 * S)

    samples = simulate(work)
    assert np.count_nonzero(samples.latency_ms > 1.5) == 1
    assert percentile(samples, 99) == pytest.approx(1, abs=0.01)
    assert percentile(samples, 100) == pytest.approx(1001, abs=0.01)


def test_a_generator_that_is_late_counts_its_lateness_as_latency():
    async def work():
        clock = SimulatedClock()

        async def call(number):
            return OK, clock.now_ns()

        class Sluggish(SimulatedClock):
            async def until(self, when_ns):
                await super().until(when_ns + 7 * MS)

        return await opened(call, Sluggish(), range(0, S, 10 * MS))

    samples = simulate(work)
    assert percentile(samples, 50) == pytest.approx(7, abs=0.01)
    assert float(np.max(samples.lateness_ms)) == pytest.approx(7, abs=0.01)


def test_requests_beyond_the_limit_are_noted_not_left_out():
    async def work():
        clock = SimulatedClock()
        server = Server(clock, service_ns=20 * MS)
        return await opened(server.call, clock, range(0, S, MS), most_in_flight=10, patience_s=0.1)

    samples = simulate(work)
    assert len(samples) == 1000
    assert np.count_nonzero(samples.status == NOT_SENT) > 900
    assert np.count_nonzero(samples.status == UNANSWERED) in range(1, 11)
    assert np.count_nonzero(samples.ok) >= 50


def test_callers_of_a_closed_loop_never_ask_the_same_number():
    async def work():
        clock = SimulatedClock()
        server = Server(clock)
        rows = await closed(server.call, clock, [0, 1, 2], 6, S // 10)
        return rows + await closed(server.call, clock, [3, 4, 5], 6, S // 5)

    samples = simulate(work)
    assert len(set(samples.request.tolist())) == len(samples)


def test_the_throughput_of_a_closed_loop_is_that_of_the_server():
    async def work():
        clock = SimulatedClock()
        server = Server(clock)
        return await closed(server.call, clock, range(8), 8, S)

    samples = simulate(work)
    assert samples.answered_between(0, S) == pytest.approx(1000, abs=2)
    # Little's law: eight in flight at 1000 per second.
    assert percentile(samples, 50) == pytest.approx(8, abs=0.1)


@pytest.mark.slow
def test_poisson_arrivals_at_half_the_capacity_wait_as_queueing_theory_says():
    async def work():
        clock = SimulatedClock()
        server = Server(clock)
        return await opened(server.call, clock, poisson(500, 80, seed=3).tolist(), most_in_flight=10**6)

    samples = simulate(work)
    # M/D/1: mean time in the system = s + rho s / (2 (1 - rho)) = 1.5 ms at rho = 0.5, s = 1 ms.
    assert float(np.mean(samples.latency_ms)) == pytest.approx(1.5, abs=0.05)
