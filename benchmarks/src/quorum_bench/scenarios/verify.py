# SPDX-License-Identifier: Apache-2.0
"""Check the benchmark: an injected latency must be measured."""

from __future__ import annotations

from quorum_bench.bench import Bench, Scenario, value_of
from quorum_bench.bootstrap import interval_of, quantile_draws
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

INJECTED_MS = 25.0
_TOLERANCE_MS = 2.0


def _play(bench: Bench) -> ScenarioResult:
    workload = Workload.made(attributes=5)
    late = {"latency_ms": INJECTED_MS, "latency_shape": "constant"}
    with (
        QuorumTarget(workload, {"m0": {}, "m1": {}, "m2": {}}) as plain,
        QuorumTarget(workload, {"m0": {}, "m1": late, "m2": {}}) as delayed,
    ):
        points = [
            Point(plain, plain.caller(workload), Closed(1), {"injected_ms": 0}),
            Point(delayed, delayed.caller(workload), Closed(1), {"injected_ms": INJECTED_MS}),
        ]
        without, with_it = bench.measure(SCENARIO.name, points)
    draws = quantile_draws(with_it.latencies, [0.5], 1)[0] - quantile_draws(without.latencies, [0.5], 2)[0]
    added = interval_of(with_it.p50_ms - without.p50_ms, draws)
    finding = Finding(
        text=f"a member that thinks for {INJECTED_MS:g} ms longer makes the p50 longer by",
        value=value_of(added),
        unit="ms",
        aim=f"{INJECTED_MS:g} ms, within {_TOLERANCE_MS:g} ms",
        met=abs(added.value - INJECTED_MS) <= _TOLERANCE_MS,
    )
    plot = Plot(title="latency p50", x="injected_ms", y=["latency_p50"])
    return SCENARIO.result([without, with_it], findings=[finding], plots=[plot])


SCENARIO = Scenario(
    "verify",
    "The benchmark checked against a known figure",
    "Two equal servers, but one member of the second waits 25 ms: does the benchmark measure it?",
    _play,
)
