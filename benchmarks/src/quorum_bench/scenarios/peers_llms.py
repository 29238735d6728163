# SPDX-License-Identifier: Apache-2.0
"""LLMs as members of the servers that are compared, also asked in rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quorum.bulk.listings import read_listings
from quorum.decision.weights import Weights
from quorum.deployment.lazy import LazySpec
from quorum_bench.bench import Measured, value_of
from quorum_bench.bootstrap import ratio_of_medians
from quorum_bench.results import Finding, Table
from quorum_bench.targets.lazy import LazyTarget, learned
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

LLM_LOADS = (1, 8, 32)
EXACT, OPEN, EARLY = "quorum_lazy", "quorum_lazy, open attributes", "quorum_lazy, open, flip risk 2 %"
_AIMS = {EXACT: 1.1, OPEN: 1.1, EARLY: 1.3}
_OURS = ("quorum", EXACT, OPEN, EARLY)
_OPEN, _EARLY = LazySpec(whole_questions=False), LazySpec(whole_questions=False, flip_risk=0.02)


def lazy_makers(workload: Workload, deploy: Path, listings: Path) -> dict[str, Callable[[], QuorumTarget]]:
    """Servers that ask members in rows -> their constructors.

    Two answer by equal weights, as the other servers do: with whole questions, and with open attributes.
    One stops early, by weights that were learned from listings which are not in the workload.
    """
    rest = read_listings(listings)[len(workload.products) :]
    found: list[Weights] = []

    def weights(target: QuorumTarget) -> Weights:
        if not found:
            found.append(learned(target, rest))
        return found[0]

    lazy = partial(LazyTarget, workload, deploy)
    return {
        EXACT: partial(lazy, EXACT, LazySpec()),
        OPEN: partial(lazy, OPEN, _OPEN),
        EARLY: partial(lazy, EARLY, _EARLY, weights),
    }


def llms_table(
    measured: Sequence[Measured],
    cold_start_s: Mapping[str, Sequence[float]],
    compared: Mapping[str, Mapping[str, Any]],
    absent: Mapping[str, str],
) -> Table:
    """Tabulate the servers around LLMs.

    Args:
        measured: Points of each server, under each load.
        cold_start_s: Server -> seconds from its start to its first answer, one a turn.
        compared: Server that asks in rows -> its answers compared with those of all members.
        absent: Server -> why it did not start.
    """
    loads = sorted({int(m.labels["load"]) for m in measured})
    best = {load: max((m.throughput for m in _peers(measured, load)), default=float("nan")) for load in loads}
    rows = []
    for name, starts in cold_start_s.items():
        mine = {int(m.labels["load"]): m for m in measured if m.labels["server"] == name}
        if len(mine) < len(loads):
            continue
        busy = mine[loads[-1]]
        rows.append(
            [
                name,
                *(as_text(mine[load].p50_ms) for load in loads),
                *(_share(mine[load].throughput, best[load]) for load in loads),
                *_spared(compared.get(name)),
                as_text(float(np.median(all_cpu(busy)))),
                as_text(busy.median(lambda run: run.pss_bytes / 2**20)),
                as_text(float(np.median(starts))),
            ]
        )
    columns = [
        "server",
        *(f"p50 at {load} callers, ms" for load in loads),
        *(f"answers/s at {load} callers (of the best peer's)" for load in loads),
        "calls per answer",
        "values as of all members",
        "CPU s per 1 000 answers, server and client",
        "memory (PSS), MiB",
        "cold start, s",
    ]
    rows += absent_rows(absent, len(columns) - 1)
    return Table(
        title="The same with LLMs as members, each in a process of its own", columns=columns, rows=rows
    )


def lazy_findings(measured: Sequence[Measured]) -> list[Finding]:
    """Say how many answers a second asking in rows gives, as a multiple of the best peer's, at each load."""
    findings = []
    for m in measured:
        name, load = str(m.labels["server"]), int(m.labels["load"])
        peers = _peers(measured, load)
        if name not in _AIMS or load == 1 or not peers:
            continue
        best = max(peers, key=lambda peer: peer.throughput)
        faster = ratio_of_medians(m.throughputs, best.throughputs)
        findings.append(
            Finding(
                text=f"answers per second of {name} with LLMs at {load} callers, as a multiple of the best "
                f"peer's ({best.labels['server']})",
                value=value_of(faster),
                no_effect=1,
                aim=f"at least {_AIMS[name]:g}",
                met=faster.value >= _AIMS[name],
            )
        )
    return findings


def _peers(measured: Sequence[Measured], load: int) -> list[Measured]:
    return [m for m in measured if m.labels["load"] == load and m.labels["server"] not in _OURS]


def _share(throughput: float, best: float) -> str:
    return f"{as_text(throughput)} ({throughput / best:.2f})"


def _spared(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "all", "all"
    return as_text(found["calls"]["lazy"]), f"{found['equal']} of {found['cells']}"


def absent_rows(absent: Mapping[str, str], blanks: int) -> list[list[str]]:
    """Return rows of the servers that did not start, or not every time, with the reason."""
    return [[f"{name}: {why.splitlines()[0]}", *["–"] * blanks] for name, why in absent.items()]


def all_cpu(measured: Measured) -> list[float]:
    """Return, per run, CPU milliseconds of servers and generators per answer."""
    own = zip(measured.cpu_ms, measured.runs, strict=True)
    return [cpu + run.generators_cpu * run.seconds / run.answered * 1e3 for cpu, run in own]


def as_text(value: float) -> str:
    """Format a figure with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
