# SPDX-License-Identifier: Apache-2.0
"""Our figures beside those of NVIDIA's perf_analyzer, on the same server, in turn."""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quorum.contract import ATTRIBUTES, CATEGORY, STABLE, TEXT
from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum_bench.bench import Bench, Scenario, Skipped, value_of
from quorum_bench.bootstrap import Interval, median_draws
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, ScenarioResult, Table
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

_MEMBERS = 3
_WITHIN = 0.05
_ROUNDS = 3


class PerfAnalyzerError(RuntimeError):
    """perf_analyzer failed; the message holds its last words."""


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
    seconds = bench.options.effort.seconds
    theirs: dict[int, list[tuple[float, float]]] = {c: [] for c in concurrencies}
    ours = []
    with QuorumTarget(workload, {f"m{i}": {} for i in range(_MEMBERS)}) as target:
        caller = target.caller(workload)
        one_run = type(bench.options.effort)(seconds, bench.options.effort.warmup_s, _ROUNDS)
        for c in concurrencies:
            theirs[c] += [run_perf_analyzer(program, target, c, workload, seconds)]
            ours += bench.measure(
                SCENARIO.name, [Point(target, caller, Closed(c), {"concurrency": c})], one_run
            )
            theirs[c] += [run_perf_analyzer(program, target, c, workload, seconds) for _ in range(2)]
    rows, findings = [], []
    for measured, c in zip(ours, concurrencies, strict=True):
        for title, unit, mine, other in (
            ("p50", "ms", [float(np.median(x)) for x in measured.latencies], [p for p, _ in theirs[c]]),
            (
                "throughput",
                "answers/s",
                [r.answered / r.seconds for r in measured.runs],
                [t for _, t in theirs[c]],
            ),
        ):
            ratio = Interval.of(
                float(np.median(mine) / np.median(other)), median_draws(mine, 1) / median_draws(other, 2)
            )
            rows.append(
                [
                    f"{title} at {c} callers",
                    f"{np.median(mine):.3g} {unit}",
                    f"{np.median(other):.3g} {unit}",
                    f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
                ]
            )
            findings.append(
                Finding(
                    text=f"{title} at {c} callers: ours / perf_analyzer's",
                    value=value_of(ratio),
                    aim="within 5 %",
                    met=abs(ratio.value - 1) <= _WITHIN,
                )
            )
    table = Table(
        title="Side by side", columns=["figure", "ours", "perf_analyzer", "ratio (95 %)"], rows=rows
    )
    return SCENARIO.result(ours, findings=findings, tables=[table])


def command(
    program: Path, url: str, key: str, concurrency: int, requests: Path, out: Path, seconds: float
) -> list[str]:
    """The command line that measures what we measure: same requests, gRPC, callers that wait.

    It reads configuration and statistics, which only the admin key opens. It is not asked to judge stability:
    it is run several times, and the interval says how far the runs differ.
    """
    return [
        str(program),
        *("-m", STABLE, "-u", url, "-i", "grpc", "-H", f"{GRPC_ADMIN_HEADER}:{key}"),
        *("--concurrency-range", str(concurrency)),
        *("--input-data", str(requests), "--measurement-interval", str(int(seconds * 1000))),
        *("--percentile", "50", "--stability-percentage", "999", "--max-trials", "3", "-f", str(out)),
    ]


def run_perf_analyzer(
    program: Path, target: QuorumTarget, concurrency: int, workload: Workload, seconds: float
) -> tuple[float, float]:
    """Its p50 in ms and its throughput per second.

    Raises:
        PerfAnalyzerError: It failed, or wrote no figures.
    """
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as folder:
        requests, out = Path(folder) / "requests.json", Path(folder) / "out.csv"
        requests.write_text(
            json.dumps({"data": [_row(p.text, p.category, p.attributes) for p in workload.products]})
        )
        line = command(program, target.url, target.admin_key, concurrency, requests, out, seconds)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)
        if done.returncode or not out.is_file():
            words = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise PerfAnalyzerError(f"perf_analyzer ended with {done.returncode}:\n{words}")
        with out.open(encoding="utf-8") as file:
            row = next(iter(csv.DictReader(file)))
    return float(row["p50 latency"]) / 1000.0, float(row["Inferences/Second"])


def _row(text: str, category: str, attributes: Sequence[str]) -> dict[str, object]:
    return {
        name: {"content": list(values), "shape": [len(values)]}
        for name, values in ((TEXT, [text]), (CATEGORY, [category]), (ATTRIBUTES, attributes))
    }


SCENARIO = Scenario(
    "cross-check",
    "Beside perf_analyzer",
    "Does NVIDIA's own load generator see the same server as ours does?",
    _play,
)
