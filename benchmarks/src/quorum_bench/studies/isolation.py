# SPDX-License-Identifier: Apache-2.0
"""Measure what the worker processes of LLMs cost: the same deployment with and without them, in turn.

The product has no switch for it. The server without workers gets a backend of this study's own for its
members, which runs every runtime in the step, as if it could not block or crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.deployment import load_deployment
from quorum.server.install import Install, find_install
from quorum_bench.bootstrap import paired_ratio
from quorum_bench.load import Closed
from quorum_bench.measure import Effort, Point, Run, measure
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import MEMBER_BACKEND

THINKING: Mapping[str, Mapping[str, Any]] = {
    f"m{i}": {"latency_ms": 20, "seed": i, "isolated": True} for i in range(5)
}
"""Members that think as long as a small LLM and compute nothing, so that the hop is all that differs."""
AT_ONCE: Mapping[str, Mapping[str, Any]] = {f"m{i}": {"isolated": True} for i in range(5)}
"""Members that answer at once: the most that the hop can cost."""

_IN_STEP = '''
"""The member's step with every runtime inside it."""
from types import SimpleNamespace

from quorum.serving import member

member.options_of = lambda settings: SimpleNamespace(isolated=False)
TritonPythonModel = member.TritonPythonModel
'''

Row = dict[str, Any]
Deployed = Path | Mapping[str, Mapping[str, Any]]
"""A deployment file, or replay members with their options."""


@dataclass(frozen=True)
class InStepInstall(Install):
    """A tritonserver whose members run their runtimes in the step."""

    def prepare_backends(self, scratch: Path) -> Path:
        """Replace the member's backend."""
        backends = super().prepare_backends(scratch)
        (backends / MEMBER_BACKEND / "model.py").write_text(_IN_STEP, encoding="utf-8")
        return backends


def measure_pairs(
    deployments: Mapping[str, Deployed],
    listings: Path,
    loads: Sequence[int],
    effort: Effort,
) -> Iterator[Row]:
    """Yield a row per deployment and load, with ratios over pairs of runs right after each other.

    Args:
        deployments: By name.
        listings: Products that the LLMs of a file are asked about.
        loads: Callers, each with one request in flight.
        effort: Of each run; its ``runs`` are pairs.
    """
    for name, deployment in deployments.items():
        if isinstance(deployment, Path):
            workload = Workload.of_listings(listings, list(load_deployment(deployment).attributes))
        else:
            workload = Workload.made(attributes=5)
        with ExitStack() as stack:
            with_workers, in_step = (
                stack.enter_context(_target(deployment, workload, install)) for install in (None, _in_step())
            )
            for load in loads:
                pairs = [
                    _pair(with_workers, in_step, workload, load, effort, is_swapped=bool(number % 2))
                    for number in range(effort.runs)
                ]
                # On a machine that others keep busy a short run may end before its first answer.
                answered = [pair for pair in pairs if all(run.answered for run in pair)]
                if not answered:
                    raise ValueError(
                        f"{name}, {load} callers: no pair was answered on both sides; use more --seconds"
                    )
                yield _row(name, load, *zip(*answered, strict=True)) | {
                    "failed": sum(int(np.sum(~run.samples.ok)) for pair in pairs for run in pair),
                    "left_out": len(pairs) - len(answered),
                }


def line(row: Row) -> str:
    """A row as text."""
    cells = [f"{row['deployment']:<12}{row['callers']:>8}{row['pairs']:>7}"]
    for key in ("throughput", "p50", "cpu"):
        ratio = row["ratio"][key]
        cells.append(f"  {ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]")
    worker, step = row["with_workers"], row["in_step"]
    cells.append(
        f"{step['per_s']:>9.1f}{worker['per_s']:>9.1f}{step['p50_ms']:>9.1f}{worker['p50_ms']:>9.1f}"
    )
    cells.append(f"{step['pss_mib']:>9.0f}{worker['pss_mib']:>9.0f}{row['failed']:>8}")
    return "".join(cells)


HEAD = (
    f"{'deployment':<12}{'callers':>8}{'pairs':>7}  "
    f"{'answers/s, ratio':<22}{'p50, ratio':<22}{'CPU, ratio':<20}"
    f"{'/s':>6}{'workers':>9}{'p50 ms':>9}{'workers':>9}{'PSS MiB':>9}{'workers':>9}{'failed':>8}"
)


def _in_step() -> Install:
    found = find_install()
    return InStepInstall(found.binary, found.backends, found.stub, found.libraries)


def _target(deployment: Deployed, workload: Workload, install: Install | None) -> QuorumTarget:
    if isinstance(deployment, Path):
        return QuorumTarget(workload, deploy=deployment, install=install)
    return QuorumTarget(workload, deployment, install=install)


def _pair(
    with_workers: QuorumTarget,
    in_step: QuorumTarget,
    workload: Workload,
    load: int,
    effort: Effort,
    is_swapped: bool,
) -> tuple[Run, Run]:
    """A run of each side right after each other; the order changes from pair to pair."""
    targets = (with_workers, in_step)
    runs = {
        target: measure(Point(target, target.caller(workload), Closed(load), {}), effort)[0]
        for target in (targets[::-1] if is_swapped else targets)
    }
    return runs[with_workers], runs[in_step]


def _row(name: str, load: int, with_workers: Sequence[Run], in_step: Sequence[Run]) -> Row:
    ratios = {
        key: asdict(paired_ratio([of(run) for run in with_workers], [of(run) for run in in_step]))
        for key, of in (("throughput", _per_s), ("p50", _p50_ms), ("cpu", _cpu_ms))
    }
    return {
        "deployment": name,
        "callers": load,
        "pairs": len(in_step),
        "ratio": ratios,
        "with_workers": _figures(with_workers),
        "in_step": _figures(in_step),
    }


def _figures(runs: Sequence[Run]) -> dict[str, float]:
    return {
        "per_s": float(np.median([_per_s(run) for run in runs])),
        "p50_ms": float(np.median([_p50_ms(run) for run in runs])),
        "cpu_ms": float(np.median([_cpu_ms(run) for run in runs])),
        "pss_mib": float(np.median([run.pss_bytes for run in runs])) / 2**20,
    }


def _per_s(run: Run) -> float:
    return run.answered / run.seconds


def _p50_ms(run: Run) -> float:
    return float(np.median(run.samples.latency_ms))


def _cpu_ms(run: Run) -> float:
    return (run.last.cpu_s - run.first.cpu_s) / run.answered * 1e3
