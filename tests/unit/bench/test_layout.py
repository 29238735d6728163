# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest

from quorum_bench.bench import Measured
from quorum_bench.measure import Run
from quorum_bench.scenarios.layout import _findings


def test_the_same_addresses_are_held_against_random_ones_pair_by_pair(make_run: Callable[..., Run]) -> None:
    """The machine slows down from run to run; within a pair the same addresses are twice as good."""
    points = []
    for addresses, factor in (("the same", 1), ("random", 2)):
        for load in (32, 1):
            runs = tuple(
                make_run((2.0 * factor * slow,) * 100, answered=800 // (factor * slow)) for slow in (1, 2, 4)
            )
            points.append(Measured(f"{addresses}{load}", {"addresses": addresses, "load": load}, runs))
    cpu, throughput, p50 = (finding.value for finding in _findings(points))
    for value, ratio in ((cpu, 0.5), (throughput, 2.0), (p50, 0.5)):
        assert value is not None
        assert (value.low, value.value, value.high) == pytest.approx((ratio, ratio, ratio))
