# SPDX-License-Identifier: Apache-2.0
"""Cost per 1 000 answers, in the currency of the prices; lower is better.

The machine, for as long as 1 000 answers take at the throughput of the run, plus the tokens of all member
calls at their prices.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if run.prices is None:
        raise NoValue("no prices were given; see --prices")
    if not run.answered:
        raise NoValue("nothing was answered")
    machine = run.prices.machine_per_hour * run.seconds / 3600.0
    tokens = 0.0
    for member, (prompt, generated) in run.prices.tokens_per_million.items():
        if member in run.members:
            if member not in run.tokens:
                raise NoValue(f"tokens of {member} have a price, but their number is not known")
            count = run.tokens[member]
            tokens += run.step(member).count * (count.prompt * prompt + count.generated * generated) / 1e6
    return (machine + tokens) / run.answered * 1000.0


METRIC = Metric(
    "cost", "cost per 1 000 answers", "currency", "lower", _of, "(machine time + tokens) at their prices"
)
