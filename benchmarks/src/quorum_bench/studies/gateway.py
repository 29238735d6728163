# SPDX-License-Identifier: Apache-2.0
"""Measure what the gateway adds: one server, asked directly and through a gateway, in turn."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.deployment import load_deployment
from quorum.deployment.gateway import GatewaySpec
from quorum.evaluation.stats import quantile
from quorum.gateway.keys import add_caller
from quorum.server.endpoint import with_gateway
from quorum.server.gateway_process import open_gateway
from quorum_bench.bootstrap import interval_of, median_draws, paired_ratio
from quorum_bench.load import Closed, run_load
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.targets.triton_caller import triton_caller
from quorum_bench.usage import cpu_seconds, descendants
from quorum_bench.workload import Workload
from quorum_contract import STABLE

Row = dict[str, Any]
Deployed = Path | Mapping[str, Mapping[str, Any]]
"""A deployment file, or replay members with their options."""
AT_ONCE: Mapping[str, Mapping[str, Any]] = {f"m{i}": {} for i in range(3)}
"""Members that answer at once: the gateway is all that a caller waits for, next to Triton."""
CPU_MS, ADDED_MS, SHARE = 0.7, 0.8, 0.02
"""Wanted: CPU of an answer, added to its median latency, and as a share of that of the demo's LLMs."""
_WARM_S = 1.0
_MANY = 1_000_000_000


@dataclass(frozen=True)
class Effort:
    """How long to measure: pairs of runs, seconds of each, and numbers of callers."""

    pairs: int
    seconds: float
    callers: Sequence[int]


@dataclass(frozen=True)
class _Run:
    """Figures of one run; CPU in milliseconds an answer."""

    per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms: float
    gateway_cpu_ms: float
    failed: int


@dataclass(frozen=True)
class _Opened:
    """A gateway in front of a server: its address, the key of its caller, its process."""

    url: str
    key: str
    pid: int


def measure(deployments: Mapping[str, Deployed], listings: Path, effort: Effort) -> Iterator[Row]:
    """Yield a row per deployment and number of callers.

    Args:
        deployments: By name.
        listings: Products that the LLMs of a file are asked about.
        effort: Its pairs are runs right after each other, the first one in turn direct and through.
    """
    for name, deployment in deployments.items():
        if isinstance(deployment, Path):
            workload = Workload.of_listings(listings, list(load_deployment(deployment).attributes))
            target = QuorumTarget(workload, deploy=deployment)
        else:
            workload = Workload.made(attributes=5)
            target = QuorumTarget(workload, deployment)
        with target, _open(target) as opened:
            for callers in effort.callers:
                yield _compare(name, target, opened, workload, callers, effort)


@contextmanager
def _open(target: QuorumTarget) -> Iterator[_Opened]:
    """A gateway whose caller has quotas that are counted and never spent."""
    claims: list[socket.socket] = []
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as name:
        folder = Path(name)
        key = add_caller(folder / "keys.json", "bench", requests_per_day=_MANY, cost_per_day=float(_MANY))
        section = GatewaySpec(grpc_port=0)
        spec = target.deployment.model_copy(update={"gateway": section, "path": folder / "deploy.yaml"})
        endpoint = with_gateway(target.endpoint, section, claims)
        try:
            with open_gateway(spec, endpoint, None, folder / "gateway.log", print) as process:
                assert process is not None
                assert endpoint.gateway is not None
                yield _Opened(endpoint.gateway, key, process.pid)
        finally:
            for claim in claims:
                claim.close()


def _compare(
    name: str, target: QuorumTarget, opened: _Opened, workload: Workload, callers: int, effort: Effort
) -> Row:
    ways = {
        "direct": target.caller(workload),
        "gateway": triton_caller(opened.url, STABLE, workload, key=opened.key),
    }
    pairs: list[dict[str, _Run]] = []
    for number in range(effort.pairs):
        runs = {
            way: _run(target, opened, ways[way], callers, effort.seconds)
            for way in list(ways)[:: -1 if number % 2 else 1]
        }
        # On a machine that others keep busy a short run may end before its first answer.
        pairs += [{way: run for way, run in runs.items() if run}] if all(runs.values()) else []
    if not pairs:
        raise ValueError(f"{name}, {callers} callers: no pair was answered on both sides; use more --seconds")
    direct, through = ([pair[way] for pair in pairs] for way in ways)
    added = [b.p50_ms - a.p50_ms for a, b in zip(direct, through, strict=True)]
    cpu = [run.gateway_cpu_ms for run in through]
    return {
        "deployment": name,
        "callers": callers,
        "pairs": len(pairs),
        "direct": _medians(direct),
        "gateway": _medians(through),
        "added_p50_ms": asdict(interval_of(float(np.median(added)), median_draws(added))),
        "gateway_cpu_ms": asdict(interval_of(float(np.median(cpu)), median_draws(cpu))),
        "ratio": {
            key: asdict(paired_ratio([getattr(r, key) for r in through], [getattr(r, key) for r in direct]))
            for key in ("per_s", "p50_ms")
        },
        "failed": sum(run.failed for run in [*direct, *through]),
        "load": os.getloadavg()[0],
    }


def _run(
    target: QuorumTarget, opened: _Opened, caller: CallerSpec, callers: int, seconds: float
) -> _Run | None:
    """One run, whose first second counts for CPU only; None: nothing was answered after it."""
    server, gateway = descendants(target.pids()), descendants([opened.pid])
    before = cpu_seconds(server), cpu_seconds(gateway)
    generated = run_load(caller, Closed(callers), _WARM_S + seconds)
    used = cpu_seconds(server) - before[0], cpu_seconds(gateway) - before[1]
    samples = generated.samples.where(generated.samples.ok)
    start = generated.start_ns + int(_WARM_S * 1e9)
    latencies = samples.between(start, generated.stop_ns).latency_ms
    if not len(latencies):
        return None
    return _Run(
        samples.answered_between(start, generated.stop_ns) / seconds,
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
        used[0] / len(samples) * 1e3,
        used[1] / len(samples) * 1e3,
        int(np.sum(~generated.samples.ok)),
    )


def _medians(runs: Sequence[_Run]) -> dict[str, float]:
    return {key: float(np.median([asdict(run)[key] for run in runs])) for key in asdict(runs[0])}


HEAD = (
    "One server, directly and through a gateway in turn. added: to the median latency, median of the pairs\n"
    "with its 95 % interval; CPU: of the gateway, an answer; ratios: gateway to direct\n"
    f"{'deployment':<12}{'callers':>8}{'pairs':>6}{'p50 ms':>16}{'p99 ms':>16}{'added ms':>22}{'CPU ms':>22}"
    f"{'answers/s':>16}{'ratio of p50':>22}{'failed':>7}{'load':>6}"
)


def line(row: Row) -> str:
    """Return a row as a line."""
    direct, through = row["direct"], row["gateway"]
    pairs = (f"{direct[key]:.1f} {through[key]:.1f}" for key in ("p50_ms", "p99_ms"))
    cells = "".join(f"{pair:>16}" for pair in pairs)
    spans = "".join(f"{_span(row[key]):>22}" for key in ("added_p50_ms", "gateway_cpu_ms"))
    rates = f"{direct['per_s']:.0f} {through['per_s']:.0f}"
    return (
        f"{row['deployment']:<12}{row['callers']:8}{row['pairs']:6}{cells}{spans}{rates:>16}"
        f"{_span(row['ratio']['p50_ms']):>22}{row['failed']:7}{row['load']:6.1f}"
    )


def _span(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def summary(rows: Sequence[Row]) -> str:
    """Return what was wanted of a single caller, and whether it came out."""
    lines = []
    for row in rows:
        if row["callers"] != 1:
            continue
        added, cpu = row["added_p50_ms"]["value"], row["gateway_cpu_ms"]["value"]
        share = added / row["direct"]["p50_ms"]
        wanted = [
            (f"{cpu:.2f} ms of CPU (wanted {CPU_MS})", cpu <= CPU_MS),
            (f"{added:.2f} ms of latency (wanted {ADDED_MS})", added <= ADDED_MS),
        ]
        if row["deployment"] == "llms":
            wanted.append(
                (f"{100 * share:.1f} % of the latency (wanted under {100 * SHARE:.0f} %)", share < SHARE)
            )
        found = "; ".join(f"{text}: {'met' if met else 'MISSED'}" for text, met in wanted)
        lines.append(f"{row['deployment']}, one caller: {found}")
    return "\n".join(lines)
