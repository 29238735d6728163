# SPDX-License-Identifier: Apache-2.0
"""Compare the full and the lazy channel of one server: answers, calls, tokens, CPU, latency, throughput."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.bulk.listings import Listing, ListingsError, read_listings
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.deployment.lazy import LazySpec
from quorum.evaluation.stats import quantile
from quorum_bench.load import Closed, run_load
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.lazy import compared, learned
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.usage import cpu_seconds, descendants
from quorum_bench.workload import Product, Workload
from quorum_contract import LAZY, STABLE

Row = dict[str, Any]
WAYS: Mapping[str, LazySpec] = {
    "whole questions": LazySpec(),
    "open attributes": LazySpec(whole_questions=False),
    "flip risk 2 %": LazySpec(whole_questions=False, flip_risk=0.02),
}
_WARM_S = 1.0
SLACK = 0.05
"""By how much the throughput gained may be below the share of calls saved."""


@dataclass(frozen=True)
class Inputs:
    """What is compared.

    Attributes:
        deploy: A deployment of LLMs.
        listings: JSONL with gold: weights are learned from one half, the channels compared on the other.
        callers: Numbers of callers, the most last.
        seconds: Measured time of each run.
        runs: Runs of each channel, in turns.
        most: Number of listings; None: all.
    """

    deploy: Path
    listings: Path
    callers: Sequence[int]
    seconds: float
    runs: int
    most: int | None = None


def compare(inputs: Inputs) -> Iterator[Row]:
    """Per way of asking in rows and attributes a request: what it changes and spares, and how fast it is."""
    listings = read_listings(inputs.listings)[: inputs.most]
    half = len(listings) // 2
    if any(not row.gold for row in listings[:half]):
        raise ListingsError(f"{inputs.listings}: weights are learned from gold; every row needs `gold`")
    weights: Weights | None = None
    for way, lazy in WAYS.items():
        names = list(load_deployment(inputs.deploy).attributes)
        one_by_one = _workload(listings[half:], [[names[at % len(names)]] for at in range(len(listings))])
        with QuorumTarget(one_by_one, deploy=inputs.deploy, lazy=lazy) as target:
            weights = weights or learned(target, listings[:half])
            target.promote(weights)
            together = _workload(listings[half:], [names] * len(listings))
            # A question about one attribute is whole in any case.
            for workload in (together,) if lazy.whole_questions else (together, one_by_one):
                yield from _compare(target, way, workload, inputs)


def _workload(listings: Sequence[Listing], attributes: Sequence[Sequence[str]]) -> Workload:
    rows = zip(listings, attributes, strict=False)
    return Workload(tuple(Product(row.text, row.category, tuple(names)) for row, names in rows))


def _compare(target: QuorumTarget, way: str, workload: Workload, inputs: Inputs) -> Iterator[Row]:
    found = {"way": way, "attributes": len(workload.products[0].attributes), **compared(target, workload)}
    for callers in inputs.callers:
        runs: dict[str, list[dict[str, float]]] = {STABLE: [], LAZY: []}
        for number in range(inputs.runs):
            # There and back again, so that a machine that slows down hits both alike.
            for channel in (STABLE, LAZY)[:: -1 if number % 2 else 1]:
                caller = target.channel_caller(workload, channel)
                runs[channel].append(_speed(target, caller, callers, inputs.seconds))
        full, lazy = (
            {name: float(np.median([run[name] for run in runs[channel]])) for name in runs[channel][0]}
            for channel in (STABLE, LAZY)
        )
        yield {**found, "callers": callers, "full": full, "lazy": lazy, "load": os.getloadavg()[0]}


def _speed(target: QuorumTarget, caller: CallerSpec, callers: int, seconds: float) -> dict[str, float]:
    """Figures of one run, its first second left out but of CPU time."""
    pids = descendants(target.pids())
    before = cpu_seconds(pids)
    generated = run_load(caller, Closed(callers), _WARM_S + seconds)
    used = cpu_seconds(pids) - before
    samples = generated.samples.where(generated.samples.ok)
    start = generated.start_ns + int(_WARM_S * 1e9)
    latencies = samples.between(start, generated.stop_ns).latency_ms
    return {
        "answers_per_s": samples.answered_between(start, generated.stop_ns) / seconds,
        "p50_ms": quantile(latencies, 0.5),
        "p95_ms": quantile(latencies, 0.95),
        "cpu_ms": used / len(samples) * 1e3,
    }


HEAD = (
    "One server, both channels in turns. equal: values that are the full channel's; flips: others though\n"
    "every vote asked for was the same; asked: votes, in %; calls, tokens, CPU ms: full and lazy, an answer\n"
    f"{'asked in rows':17}{'attr.':>6}{'equal':>12}{'flips':>6}{'asked':>7}{'calls':>12}{'tokens':>12}"
    f"{'callers':>8}{'p50 ms':>12}{'p95 ms':>12}{'CPU ms':>14}{'answers/s':>14}{'ratio':>6}"
)


def line(row: Row) -> str:
    """Return a row as a line."""
    full, lazy = row["full"], row["lazy"]
    calls = f"{row['calls']['full']:.2f} {row['calls']['lazy']:.2f}"
    whole, part = (row["prompt_tokens"][c] + row["answer_tokens"][c] for c in ("full", "lazy"))
    tokens = f"{whole:.0f} {part:.0f}"
    columns = (("p50_ms", 0, 12), ("p95_ms", 0, 12), ("cpu_ms", 1, 14), ("answers_per_s", 1, 14))
    pairs = ((f"{full[key]:.{digits}f} {lazy[key]:.{digits}f}", width) for key, digits, width in columns)
    speed = "".join(f"{pair:>{width}}" for pair, width in pairs)
    return (
        f"{row['way']:17}{row['attributes']:6}{row['equal']:>6} of {row['cells']:<4}{row['flips']:5}"
        f"{100 * row['asked']:7.1f}{calls:>12}{tokens:>12}{row['callers']:8}{speed}{gained(row):6.2f}"
    )


def gained(row: Row) -> float:
    """Answers per second of the lazy channel, as a multiple of the full one's."""
    return float(row["lazy"]["answers_per_s"] / row["full"]["answers_per_s"])


def summary(rows: Sequence[Row]) -> str:
    """Return what was wanted, and whether it came out."""
    lines = []
    most = max(row["callers"] for row in rows)
    for row in rows:
        if row["callers"] != most:
            continue
        saved = 1.0 - row["calls"]["lazy"] / row["calls"]["full"]
        met = gained(row) - 1.0 >= saved - SLACK
        kept = row["cells"] - row["equal"] <= WAYS[row["way"]].flip_risk * row["cells"]
        lines.append(
            f"{row['way']}, {row['attributes']} attributes: equal answers {'met' if kept else 'MISSED'}; "
            f"{100 * saved:.1f} % of the calls saved, {100 * (gained(row) - 1):+.1f} % answers/s at {most} "
            f"callers (wanted: the share of calls saved, less {100 * SLACK:.0f} points): "
            f"{'met' if met else 'MISSED'}"
        )
    return "\n".join(lines)
