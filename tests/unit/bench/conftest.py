# SPDX-License-Identifier: Apache-2.0
"""Runs that are made up, so that their figures are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from quorum_bench.bench import Measured
from quorum_bench.measure import Prices, Run, Tokens
from quorum_bench.samples import OK, Samples
from quorum_bench.targets import StepTimes
from quorum_bench.usage import Snapshot

MS, S = 1_000_000, 1_000_000_000


def snapshot(at_s: float, cpu_s: float, steps: Mapping[str, StepTimes], **more: object) -> Snapshot:
    fields = {"busy_s": cpu_s, "rss_bytes": 0, "rapl_j": None, "gpu_w": None, "gpu_bytes": None}
    return Snapshot(at_ns=int(at_s * S), cpu_s=cpu_s, steps=steps, **(fields | more))  # type: ignore[arg-type]


def samples(
    latency_ms: Sequence[float], status: Sequence[int] | None = None, late_ms: float = 0.0
) -> Samples:
    """One request every 10 ms from second 0."""
    count = len(latency_ms)
    intended = np.arange(count, dtype=np.int64) * 10 * MS
    return Samples(
        np.arange(count, dtype=np.int64),
        intended,
        intended + int(late_ms * MS),
        intended + (np.array(latency_ms) * MS).astype(np.int64),
        np.array([OK] * count if status is None else status, np.int32),
    )


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of one second and a hundred requests, unless told otherwise."""

    def make(latency_ms: Sequence[float] = (5.0,) * 100, **more: object) -> Run:
        status = more.pop("status", None)
        late_ms = more.pop("late_ms", 0.0)
        taken = samples(latency_ms, status, late_ms)  # type: ignore[arg-type]
        idle = {"a": StepTimes(10, 10 * MS, 20 * MS), "b": StepTimes(10, 0, 0)}
        busy = {"a": StepTimes(110, 110 * MS, 320 * MS), "b": StepTimes(60, 0, 50 * MS)}
        fields = {
            "samples": taken,
            "answered": int(np.count_nonzero(taken.ok)),
            "first": snapshot(0, 10.0, idle, gpu_bytes=2**20, rapl_j=100.0),
            "last": snapshot(1, 10.5, busy, gpu_bytes=3 * 2**20, rapl_j=130.0),
            "rss_peak_bytes": 300 * 2**20,
            "pss_bytes": 200 * 2**20,
            "gpu_w": 50.0,
            "generator_cpu": 0.2,
            "generators_cpu": 0.3,
            "others_cpu": 0.05,
            "steady": True,
            "members": ("a", "b"),
            "tokens": {"a": Tokens(100, 10), "b": Tokens(100, 20)},
            "prices": Prices(3.6, {"a": (1.0, 2.0)}),
            "slo_ms": 6.0,
        }
        return Run(**(fields | more))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_measured(make_run: Callable[..., Run]) -> Callable[..., Measured]:
    """A point of three runs around a latency."""

    def make(ident: str, p50_ms: float, seed: int = 0, **labels: str | int | float) -> Measured:
        rng = np.random.default_rng(seed)
        runs = tuple(make_run(p50_ms + rng.normal(0, 0.02 * p50_ms, 100)) for _ in range(3))
        return Measured(ident, labels, runs)

    return make
