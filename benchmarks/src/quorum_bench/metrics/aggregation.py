# SPDX-License-Identifier: Apache-2.0
"""Aggregation time: from a table of coded votes to one decision per cell; milliseconds, lower is better.

Comes from a votes table, not from a load: only the scenario ``learning`` has it.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    raise NoValue(f"a load on {len(run.members)} members aggregates no table; see the scenario learning")


METRIC = Metric(
    "aggregation",
    "aggregation time",
    "ms",
    "lower",
    _of,
    "median over repeats, from cold caches",
)
