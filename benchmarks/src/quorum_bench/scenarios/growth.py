# SPDX-License-Identifier: Apache-2.0
"""Measure how cost grows with the number of members and the attributes of one request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quorum.evaluation.stats import Estimate
from quorum_bench.bench import Bench, Measured, Scenario, value_of
from quorum_bench.bootstrap import ratio_of_medians, slope
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, Plot, ScenarioResult
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

_BUSY = 16
_ATTRIBUTES = 5
_MEMBERS = 5


def _members(bench: Bench) -> ScenarioResult:
    workload = Workload.made(_ATTRIBUTES)
    quiet: list[Measured] = []
    busy: list[Measured] = []
    alone: Measured | None = None
    for count in bench.options.pick((1, 3, 5, 8), tuple(range(1, 9))):
        with QuorumTarget(workload, {f"m{i}": {} for i in range(count)}) as target:
            caller = target.caller(workload)
            points = [
                Point(target, caller, Closed(1), {"members": count, "concurrency": 1}),
                Point(target, caller, Closed(_BUSY), {"members": count, "concurrency": _BUSY}),
            ]
            if count == 1:
                member = target.member_caller(workload, "m0")
                points.append(Point(target, member, Closed(_BUSY), {"asked": "m0", "concurrency": _BUSY}))
            first, second, *rest = bench.measure(MEMBERS.name, points)
        quiet.append(first)
        busy.append(second)
        alone = rest[0] if rest else alone
    assert alone is not None
    own_ms = float(np.median(alone.cpu_ms))
    counts = [float(m.labels["members"]) for m in busy]
    fitted = slope(counts, [m.cpu_ms for m in busy])
    findings = [
        Finding(
            text="each further member adds to the CPU time of an answer (ideal: what a member asked alone "
            f"costs, {own_ms:.2f} ms)",
            value=value_of(fitted),
            unit="ms",
            no_effect=0,
        ),
        Finding(
            text="each further member adds to the p50 of a lone request (ideal: 0, with a core for each)",
            value=value_of(slope(counts, [m.p50s_ms for m in quiet])),
            unit="ms",
            no_effect=0,
        ),
        Finding(
            text="answers per second with 1 member, as a multiple of those with 5 (ideal: 5)",
            value=value_of(_ratio(busy, counts, 1, 5)),
            no_effect=1,
        ),
    ]
    base = float(np.median(busy[0].cpu_ms))
    plots = [
        Plot(title="latency p50", x="members", y=["latency_p50"], series="concurrency"),
        Plot(
            title="CPU seconds per 1 000 answers",
            x="members",
            y=["cpu"],
            series="concurrency",
            ideal=[(n, base + (n - 1) * own_ms) for n in counts],
            ideal_name="one member's own cost added for each",
        ),
        Plot(title="throughput", x="members", y=["throughput"], series="concurrency"),
    ]
    points_shown = [m for pair in zip(quiet, busy, strict=True) for m in pair] + [alone]
    return MEMBERS.result(points_shown, findings=findings, plots=plots)


def _attributes(bench: Bench) -> ScenarioResult:
    counts = bench.options.pick((1, 5, 20), (1, 2, 3, 5, 8, 12, 16, 20))
    # One votes table for all: texts do not depend on attributes, and the widest workload has all of them.
    widest = Workload.made(max(counts))
    with QuorumTarget(widest, {f"m{i}": {} for i in range(_MEMBERS)}) as target:
        measured = bench.measure(
            ATTRIBUTES.name,
            [
                Point(target, target.caller(Workload.made(a)), Closed(c), {"attributes": a, "concurrency": c})
                for a in counts
                for c in (1, _BUSY)
            ],
        )
    quiet, busy = measured[::2], measured[1::2]
    x = [float(a) for a in counts]
    base = float(np.median(busy[0].cpu_ms))
    findings = [
        Finding(
            text="each further attribute adds to the CPU time of an answer (asked in a request of its own: "
            f"{base:.2f} ms; ideal: 0)",
            value=value_of(slope(x, [m.cpu_ms for m in busy])),
            unit="ms",
            no_effect=0,
        ),
        Finding(
            text="each further attribute adds to the p50 of a lone request (ideal: 0)",
            value=value_of(slope(x, [m.p50s_ms for m in quiet])),
            unit="ms",
            no_effect=0,
        ),
    ]
    plots = [
        Plot(title="latency p50", x="attributes", y=["latency_p50"], series="concurrency"),
        Plot(
            title="CPU seconds per 1 000 answers",
            x="attributes",
            y=["cpu"],
            series="concurrency",
            ideal=[(a, base) for a in x],
            ideal_name="further attributes cost nothing",
        ),
    ]
    return ATTRIBUTES.result(measured, findings=findings, plots=plots)


def _ratio(measured: Sequence[Measured], counts: Sequence[float], few: int, many: int) -> Estimate:
    a, b = (measured[counts.index(n)].throughputs for n in (few, many))
    return ratio_of_medians(a, b)


MEMBERS = Scenario(
    "members",
    "Growth with the number of members",
    "What does each further member cost, when the members themselves cost nearly nothing?",
    _members,
)
ATTRIBUTES = Scenario(
    "attributes",
    "Growth with attributes per request",
    "What does each further attribute of one request cost, compared with a request of its own?",
    _attributes,
)
