# SPDX-License-Identifier: Apache-2.0
"""Compare our figures with those of NVIDIA's perf_analyzer, on the same server, in turn."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quorum.evaluation.stats import Estimate
from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum_bench.bench import Bench, Scenario, Skipped, value_of
from quorum_bench.bootstrap import ratio_of_medians
from quorum_bench.load import Closed
from quorum_bench.measure import Effort, Point, Run
from quorum_bench.results import Finding, ScenarioResult, Table
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.usage import cpu_seconds
from quorum_bench.workload import Workload
from quorum_contract import STABLE
from quorum_contract.errors import QuorumError
from quorum_contract.tensors import ASKED

_MEMBERS = 3
_WITHIN = 0.05
_ROUNDS = 3
_UNDER_WAY_S = 1.0


class PerfAnalyzerError(QuorumError, RuntimeError):
    """perf_analyzer failed; the message holds its last words."""

    code = "PERF_ANALYZER_FAILED"


@dataclass(frozen=True, slots=True)
class Seen:
    """Figures of one load generator in one run.

    Attributes:
        p50_ms: Latency.
        rate: Answers per second.
        own_ms: CPU of the generator itself per answer.
    """

    p50_ms: float
    rate: float
    own_ms: float

    def without_own(self, callers: int, cores: int) -> Seen:
        """The figures less the cost of the generator.

        A lone caller waits for its own client; callers that keep all cores busy share them with the server.
        With idle cores the second is too much, and both contain client work outside the path of a request: an
        explanation, not a measurement.
        """
        if callers == 1:
            return Seen(self.p50_ms - self.own_ms, 1e3 / (1e3 / self.rate - self.own_ms), 0.0)
        saved_ms = self.own_ms / cores
        return Seen(self.p50_ms - callers * saved_ms, 1e3 / (1e3 / self.rate - saved_ms), 0.0)


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


def command(
    program: Path, url: str, key: str, concurrency: int, requests: Path, out: Path, seconds: float
) -> list[str]:
    """Return the command line for the same measurement: same requests, gRPC, callers that wait.

    It reads configuration and statistics, which need the admin key. Its judgement of stability is switched
    off: it runs several times, and the interval shows how far the runs differ.
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
) -> Seen:
    """Run perf_analyzer and read its figures.

    Raises:
        PerfAnalyzerError: It failed, or wrote no figures.
    """
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as folder:
        requests, out, words = (Path(folder) / name for name in ("requests.json", "out.csv", "words"))
        requests.write_text(
            json.dumps({"data": [_row(p.text, p.category, p.attributes) for p in workload.products]})
        )
        line = command(program, target.url, target.admin_key, concurrency, requests, out, seconds)
        with words.open("w") as log:
            process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
        try:
            own_ms = _own_ms(process, target, seconds)
            process.wait(180)
        finally:
            process.kill()
            process.wait()
        if process.returncode or not out.is_file():
            last = "\n".join(words.read_text(errors="replace").splitlines()[-8:])
            raise PerfAnalyzerError(f"perf_analyzer ended with {process.returncode}:\n{last}")
        with out.open(encoding="utf-8") as file:
            row = next(iter(csv.DictReader(file)))
    return Seen(float(row["p50 latency"]) / 1000.0, float(row["Inferences/Second"]), own_ms)


def _own_ms(process: subprocess.Popen[bytes], target: QuorumTarget, seconds: float) -> float:
    """CPU milliseconds of the program per answer, under steady full load."""

    def now() -> tuple[float, int]:
        return cpu_seconds([process.pid]), target.steps()[STABLE].count

    time.sleep(_UNDER_WAY_S)
    if process.poll() is not None:
        raise PerfAnalyzerError(f"perf_analyzer ended with {process.returncode} within {_UNDER_WAY_S:g} s")
    cpu, count = now()
    time.sleep(seconds)
    cpu_after, count_after = now()
    return (cpu_after - cpu) / max(1, count_after - count) * 1e3


def _row(text: str, category: str, attributes: Sequence[str]) -> dict[str, object]:
    return {
        tensor.name: {"content": list(values), "shape": [len(values)]}
        for tensor, values in zip(ASKED, ([text], [category], attributes), strict=True)
    }


SCENARIO = Scenario(
    "cross-check",
    "Next to perf_analyzer",
    "Does NVIDIA's own load generator measure the same figures as ours?",
    _play,
)
