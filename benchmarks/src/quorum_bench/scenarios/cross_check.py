# SPDX-License-Identifier: Apache-2.0
"""Compare our figures with those of NVIDIA's perf_analyzer, on the same server, in turn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quorum.evaluation.stats import Estimate
from quorum_bench.bench import Bench, Scenario, Skipped, value_of
from quorum_bench.bootstrap import ratio_of_medians
from quorum_bench.load import Closed
from quorum_bench.measure import Effort, Point, Run
from quorum_bench.perf_analyzer import Seen, command, run_perf_analyzer
from quorum_bench.results import Finding, ScenarioResult, Table
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

_MEMBERS = 3
_WITHIN = 0.05
_ROUNDS = 3


def _play(bench: Bench) -> ScenarioResult:
    program = bench.options.perf_analyzer
    if program is None:
        example = command(
            Path("perf_analyzer"), "HOST:PORT", "KEY", 1, Path("requests.json"), Path("out.csv"), 2.0
        )
        raise Skipped(
            "not run here: give the program with --perf-analyzer PATH (the guide says where it comes from). "
            f"The command is: {' '.join(example)}"
        )
    workload = Workload.made(attributes=5)
    concurrencies = bench.options.pick((1, 8), (1, 4, 16))
    effort = Effort(max(3.0, bench.options.effort.seconds), bench.options.effort.warmup_s, _ROUNDS)
    tally = bench.tally(SCENARIO.name, effort)
    theirs: dict[int, list[Seen]] = {c: [] for c in concurrencies}
    with QuorumTarget(workload, {f"m{i}": {} for i in range(_MEMBERS)}) as target:
        for number in range(_ROUNDS):
            for c in concurrencies:
                tally.run(Point(target, target.caller(workload), Closed(c), {"concurrency": c}), number)
                seen = run_perf_analyzer(program, target, c, workload, effort.seconds)
                theirs[c].append(seen)
                bench.say(f"{SCENARIO.name}: perf_analyzer, {c} callers: {seen}")
    ours = tally.measured()
    rows, findings = [], []
    for measured, c in zip(ours, concurrencies, strict=True):
        mine = [_seen(run) for run in measured.runs]
        for what, unit in (("p50_ms", "ms"), ("rate", "answers/s")):
            row, finding = _compared(what, unit, c, mine, theirs[c])
            rows.append(row)
            findings.append(finding)
        rows.append([f"the generator's own CPU at {c} callers", _own(mine), _own(theirs[c]), "", ""])
    columns = ["figure", "ours", "perf_analyzer", "ratio (95 %)", "less what each generator costs (95 %)"]
    table = Table(title="Side by side", columns=columns, rows=rows)
    return SCENARIO.result(ours, findings=findings, tables=[table])


def _seen(run: Run) -> Seen:
    own_ms = run.generators_cpu * run.seconds / run.answered * 1e3
    return Seen(float(np.median(run.samples.latency_ms)), run.answered / run.seconds, own_ms)


def _own(seen: Sequence[Seen]) -> str:
    return f"{np.median([run.own_ms for run in seen]):.2f} ms an answer"


def _compared(
    what: str, unit: str, callers: int, mine: Sequence[Seen], other: Sequence[Seen]
) -> tuple[list[str], Finding]:
    """Return row and finding: as measured, and less the cost of the generators."""
    cores = len(os.sched_getaffinity(0))
    raw = ratio_of_medians([getattr(s, what) for s in mine], [getattr(s, what) for s in other])
    net = ratio_of_medians(
        *([getattr(s.without_own(callers, cores), what) for s in seen] for seen in (mine, other))
    )
    title = {"p50_ms": "p50", "rate": "throughput"}[what]
    medians = [f"{np.median([getattr(s, what) for s in seen]):.3g} {unit}" for seen in (mine, other)]
    row = [f"{title} at {callers} callers", *medians, _ratio_text(raw), _ratio_text(net)]
    finding = Finding(
        text=f"{title} at {callers} callers, ours / perf_analyzer's (less what each generator costs itself, "
        f"by CPU time: {_ratio_text(net)})",
        value=value_of(raw),
        aim="within 5 %",
        met=abs(raw.value - 1) <= _WITHIN,
    )
    return row, finding


def _ratio_text(ratio: Estimate) -> str:
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


SCENARIO = Scenario(
    "cross-check",
    "Next to perf_analyzer",
    "Does NVIDIA's own load generator measure the same figures as ours?",
    _play,
)
