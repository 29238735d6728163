# SPDX-License-Identifier: Apache-2.0
"""A run in which nothing was answered, as on a busy machine, is repeated over a longer time, or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quorum_bench import bench
from quorum_bench.bench import Bench, Options, point_result
from quorum_bench.load import Closed, LoadError, Open
from quorum_bench.measure import Effort, Point
from quorum_bench.sample_file import SampleFile, read_latencies

EFFORT = Effort(seconds=0.5, warmup_s=0.5, runs=1)
LABELS = {"asked": "m0"}


@pytest.fixture
def played(make_run, monkeypatch, tmp_path):
    """Measure a point whose runs are these; what was measured, the lengths of runs, what was said."""

    def play(load: Any, *latencies: tuple[float, ...], **more: Any):
        runs, seconds, said = iter(latencies), [], []

        def measure(_point: Point, effort: Effort, _prices: Any):
            seconds.append(effort.seconds)
            run = make_run(next(runs), **more)
            return run, run.samples

        monkeypatch.setattr(bench, "measure", measure)
        point = Point(None, None, load, LABELS)  # type: ignore[arg-type]
        with SampleFile(tmp_path / "samples.parquet") as file:
            tally = Bench(Options("short", EFFORT), file, said.append).tally("overhead")
            try:
                tally.run(point, 0)
            except LoadError as error:
                said.append(str(error))
        return tally.measured(), seconds, said

    return play


def test_a_run_without_an_answer_is_repeated_over_a_longer_time(played, tmp_path: Path) -> None:
    measured, seconds, said = played(Closed(1), (), (), (5.0,) * 100)
    assert seconds == [0.5, 2.0, 8.0]
    assert said[0] == (
        "overhead/asked=m0: no answer in 0.5 s (0 requests sent); the run is repeated over 2 s"
    )
    (point,) = measured
    assert point.p50_ms == 5.0
    assert point_result(point).notes == ["nothing was answered in 1 of 1 runs, which were repeated, longer"]
    assert [len(found) for found in read_latencies(tmp_path / "samples.parquet").values()] == [100]


def test_without_any_answer_the_point_and_the_option_are_named(played) -> None:
    measured, seconds, said = played(Closed(1), *[(30.0,)] * 4, status=[14])
    assert seconds == [0.5, 2.0, 8.0, 20.0]
    assert "overhead/asked=m0: no answer in 20 s (1 requests sent, 1 of them failed" in said[-1]
    assert "status 14" in said[-1]
    assert "--seconds" in said[-1]
    assert not measured


def test_arrivals_that_are_fixed_are_played_once(played) -> None:
    measured, seconds, _ = played(Open(np.zeros(0, np.int64), 1), ())
    assert seconds == [0.5]
    assert "latency_p50" in point_result(measured[0]).missing


def test_an_answered_run_is_not_repeated(played) -> None:
    (point,), seconds, said = played(Closed(1), (5.0,) * 100)
    assert seconds == [0.5]
    assert len(said) == 1
    assert point_result(point).notes == []
