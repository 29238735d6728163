# SPDX-License-Identifier: Apache-2.0
"""Compare two results: the ratio of each figure with its interval, and whether it got worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from quorum.evaluation.stats import Estimate, Floats
from quorum_bench.bootstrap import interval_of, median_draws, quantile_draws
from quorum_bench.metrics.latency import QUANTILES
from quorum_bench.results import SAMPLES, MetricInfo, PointResult, Results, read_results
from quorum_bench.sample_file import read_latencies
from quorum_contract.errors import QuorumError

Verdict = Literal["better", "worse", "no difference shown"]
DEFAULT_METRICS = ("latency_p50", "latency_p99", "throughput", "cpu")


class CompareError(QuorumError, ValueError):
    """Two results cannot be compared; the message says why."""

    code = "RESULTS_NOT_COMPARABLE"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one point in both results.

    Attributes:
        point: Its id.
        metric: Key.
        a: In the first.
        b: In the second.
        ratio: Factor by which the second is *worse*: b / a, or a / b where higher is better.
        verdict: By whether 1 lies in the interval.
    """

    point: str
    metric: str
    a: float
    b: float
    ratio: Estimate

    @property
    def verdict(self) -> Verdict:
        """Worse or better only if the whole interval is."""
        if self.ratio.low > 1:
            return "worse"
        return "better" if self.ratio.high < 1 else "no difference shown"

    def exceeds(self, max_ratio: float, strict: bool) -> bool:
        """Whether it is a regression: certainly so or, if ``strict``, not certainly not so."""
        return (self.ratio.high if strict else self.ratio.low) > max_ratio


@dataclass(frozen=True, slots=True)
class _Side:
    results: Results
    latencies: dict[str, list[Floats]]

    @classmethod
    def read(cls, path: Path) -> _Side:
        folder = path if path.is_dir() else path.parent
        latencies: dict[str, list[Floats]] = {}
        if (folder / SAMPLES).is_file():
            for (point, _), values in read_latencies(folder / SAMPLES).items():
                latencies.setdefault(point, []).append(values)
        return cls(read_results(path), latencies)

    def draws(self, point: PointResult, key: str, seed: int) -> Floats:
        """Bootstrap draws of a figure: from the samples for a latency, if they are kept."""
        name = key.removeprefix("latency_")
        runs = self.latencies.get(point.id)
        if key.startswith("latency_") and runs:
            draws: Floats = quantile_draws(runs, [QUANTILES[name]], seed)[0]
            return draws
        return median_draws(point.values[key].runs or [point.values[key].value], seed)


def compare(a: Path, b: Path, metrics: Sequence[str] = DEFAULT_METRICS) -> list[Row]:
    """Compare the figures that both results have.

    Args:
        a: The first, a folder or its ``results.json``: before.
        b: The second: after.
        metrics: Keys.

    Returns:
        A row per point and metric that both have, in the order of the first.

    Raises:
        CompareError: They have no point in common, or a metric is unknown.
        ResultsError: One cannot be read.
    """
    before, after = _Side.read(a), _Side.read(b)
    unknown = [key for key in metrics if key not in before.results.metrics]
    if unknown:
        raise CompareError(f"no metric {unknown[0]!r} in {a}; it has {', '.join(before.results.metrics)}")
    others = after.results.points()
    shared = [(p, others[p.id]) for p in before.results.points().values() if p.id in others]
    if not shared:
        raise CompareError(f"{a} and {b} have no point in common; run the same scenarios in the same form")
    rows = []
    for seed, (p, q) in enumerate(shared):
        for key in metrics:
            if key in p.values and key in q.values:
                info = before.results.metrics[key]
                rows.append(
                    _row(info, key, p, q, before.draws(p, key, 2 * seed), after.draws(q, key, 2 * seed + 1))
                )
    return rows


def differences(a: Path, b: Path) -> list[str]:
    """Describe the differences of two environments; with any, a ratio is not about the code alone."""
    before, after = read_results(a), read_results(b)
    keys = ("cpu", "cores", "cores_usable", "cpu_quota", "gpus", "triton", "python", "packages")
    lines = [
        f"{key}: {before.environment.get(key)} and {after.environment.get(key)}"
        for key in keys
        if before.environment.get(key) != after.environment.get(key)
    ]
    if before.effort != after.effort:
        lines.append(f"effort: {before.effort} and {after.effort}")
    return lines


def _row(info: MetricInfo, key: str, p: PointResult, q: PointResult, da: Floats, db: Floats) -> Row:
    a, b = p.values[key].value, q.values[key].value
    if info.better == "higher":
        value, draws = _divide(a, b), _divide(da, db)
    else:
        value, draws = _divide(b, a), _divide(db, da)
    return Row(p.id, key, a, b, interval_of(float(value), np.asarray(draws)))


def _divide(top: float | Floats, bottom: float | Floats) -> Floats:
    """Divide; zero over zero is no difference, any other value over zero a very large one."""
    above, below = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    safe = np.where(below == 0.0, 1.0, below)
    return np.where(below == 0.0, np.where(above == 0.0, 1.0, 1e9), above / safe)
