# SPDX-License-Identifier: Apache-2.0
"""Time to first token: not applicable.

An answer of an ensemble exists only when its vote is counted, so nothing is streamed, and the first token
arrives with the last one: it equals the latency.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    raise NoValue(f"an answer of {len(run.members)} voting members is not streamed; read the latency")


METRIC = Metric("first_token", "time to first token", "ms", "lower", _of, "not applicable: nothing streams")
