# SPDX-License-Identifier: Apache-2.0
"""Figures of an overload, on requests whose times were made by hand, and a bulk run that ends early."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.load import Generated, LoadError
from quorum_bench.samples import NOT_SENT, OK, UNAVAILABLE, Samples
from quorum_bench.scenarios.bulk import BulkRun
from quorum_bench.scenarios.overload import GOOD_MS, crowd_and_after, figures_of, recovery_s
from quorum_bench.workload import Workload

S = 1_000_000_000
MS = 1_000_000
START = 7 * S


def samples(*rows: tuple[float, float, int]) -> Samples:
    """Requests: intended second, milliseconds until the end, status."""
    return Samples.of(
        (at, START + int(s * S), START + int(s * S), START + int(s * S + ms * MS), status)
        for at, (s, ms, status) in enumerate(rows)
    )


def test_the_figures_are_of_the_crowd_and_the_recovery_of_what_follows() -> None:
    rows = [(0.1, 10, OK), (0.2, GOOD_MS + 1, OK), (0.3, 30, UNAVAILABLE), (0.4, 0, NOT_SENT), (2.5, 1, OK)]
    found = figures_of(Generated(samples(*rows), START, START + 4 * S, 0.5, 0.5), seconds=2.0)
    assert found["throughput"] == found["goodput"] == 0.5, "the other answer came after the crowd"
    assert found["failed"] == 50.0
    assert found["refusal_p50"] == found["refusal_p99"] == pytest.approx(30)
    assert found["latency_p50"] >= 10
    assert found["recovery"] == 0
    assert found["not_sent"] == 1


def test_throughput_and_goodput_go_by_one_clock() -> None:
    late = GOOD_MS + 1
    # The last two were sent under the load, and answered after it.
    rows = [(0.0, 10, OK), (0.1, late, OK), (0.2, 30, UNAVAILABLE), (3.9, 200, OK), (3.9, late, OK)]
    found = figures_of(Generated(samples(*rows), START, START + 8 * S, 0.5, 0.5), seconds=4.0)
    assert (found["throughput"], found["goodput"]) == (0.5, 0.25)


def test_without_a_refusal_there_is_no_time_of_one() -> None:
    found = figures_of(Generated(samples((0.1, 10, OK)), START, START + 2 * S, 0.5, 0.5), seconds=1.0)
    assert not {"refusal_p50", "refusal_p99"} & found.keys()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([(2.5, 10, OK)], 0.0),
        ([(2.5, 10, UNAVAILABLE), (3.0, 10, OK)], 0.5),
        ([(2.25, GOOD_MS + 1, OK), (3.5, 10, OK)], 0.25),
        ([(2.5, 10, OK), (3.75, 10, UNAVAILABLE)], 1.75),
    ],
)
def test_recovery_lasts_until_the_last_request_without_a_good_answer(
    after: list[tuple[float, float, int]], expected: float
) -> None:
    assert recovery_s(samples((1.9, 10, UNAVAILABLE), *after), START + 2 * S) == pytest.approx(expected)


def test_the_load_falls_at_half_time() -> None:
    arrivals = crowd_and_after(200.0, 20.0, 5.0, seed=3)
    crowd = int((arrivals < 5 * S).sum())
    assert crowd == pytest.approx(1000, rel=0.15)
    assert len(arrivals) - crowd == pytest.approx(100, rel=0.4)
    assert (np.diff(arrivals) >= 0).all()


def test_a_bulk_run_that_ends_early_is_an_error_not_a_slow_one() -> None:
    workload = Workload.made(1, products=1)
    run = BulkRun("127.0.0.1:1", workload)
    with pytest.raises(LoadError, match="Unreachable"), run:
        run._thread.join(30)
    assert run.done_ns == []
