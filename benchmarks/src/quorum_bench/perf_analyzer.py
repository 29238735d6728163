# SPDX-License-Identifier: Apache-2.0
"""Run NVIDIA's load generator perf_analyzer against a server, and read its figures."""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.usage import cpu_seconds
from quorum_bench.workload import Workload
from quorum_contract import STABLE
from quorum_contract.errors import QuorumError
from quorum_contract.tensors import ASKED

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
