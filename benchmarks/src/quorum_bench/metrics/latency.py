# SPDX-License-Identifier: Apache-2.0
"""Latency in ms: percentiles of ``done - intended`` over the answered requests of the window.

Counted from the time at which a request was *meant* to be sent, so that waiting caused by earlier slow
answers is in it. Failed requests have no latency; see ``failed``, and ``refusal`` for those that the
server refused.
"""

from __future__ import annotations

from quorum.evaluation.stats import quantile
from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue, no_value

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


def _percentile(name: str, q: float) -> Metric:
    def of(run: Run) -> float:
        latency = run.samples.latency_ms
        if not len(latency):
            raise NoValue("nothing was answered")
        return quantile(latency, q)

    return Metric(
        f"latency_{name}",
        f"latency {name}",
        "ms",
        "lower",
        of,
        f"{'largest' if name == 'max' else name[1:] + 'th percentile of'} (answered - meant to be sent)",
    )


PERCENTILES = tuple(_percentile(name, q) for name, q in QUANTILES.items())


def _refusal(name: str, q: float) -> Metric:
    def of(run: Run) -> float:
        times = run.samples.refusal_ms
        if not len(times):
            raise NoValue("nothing was refused")
        return quantile(times, q)

    formula = f"{name[1:]}th percentile of (refused - meant to be sent)"
    return Metric(f"refusal_{name}", f"refusal {name}", "ms", "lower", of, formula)


REFUSALS = tuple(_refusal(name, QUANTILES[name]) for name in ("p50", "p99"))

RECOVERY = Metric(
    "recovery",
    "recovery",
    "s",
    "lower",
    no_value("only a load that falls has a recovery; see the scenario overload"),
    "last request without a good answer - fall of the load",
)

# An ensemble's answer exists only when its vote is counted: the first token arrives with the last one.
FIRST_TOKEN = Metric(
    "first_token",
    "time to first token",
    "ms",
    "lower",
    no_value("an answer of {members} voting members is not streamed; read the latency"),
    "not applicable: nothing streams",
)
