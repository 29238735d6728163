# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures a server whose figures are known: a member that takes 25 ms must show as such."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from quorum_bench.arrivals import poisson, replayed
from quorum_bench.bench import Bench, Measured, Options, point_result
from quorum_bench.cli.app import app
from quorum_bench.load import Closed, LoadError, Open, run_load
from quorum_bench.measure import Effort, Point
from quorum_bench.metrics import ALL as METRICS
from quorum_bench.metrics.graph import overhead
from quorum_bench.results import read_results
from quorum_bench.sample_file import SampleFile, read_latencies
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import WAITED, QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import GATE, VOTE

INJECTED_MS = 25.0
WORKLOAD = Workload.made(attributes=2, products=8)
EFFORT = Effort(seconds=1.0, warmup_s=0.3, runs=2)


@pytest.fixture(scope="module")
def target() -> Iterator[QuorumTarget]:
    slow = {"latency_ms": INJECTED_MS, "latency_shape": "constant"}
    with QuorumTarget(WORKLOAD, {"quick": {}, "slow": slow}) as target:
        yield target


@pytest.fixture(scope="module")
def measured(
    target: QuorumTarget, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Measured], Measured, dict]:
    """The ensemble and each member alone, in turn; an open loop; the samples as written."""
    path = tmp_path_factory.mktemp("bench") / "samples.parquet"
    points = [Point(target, target.caller(WORKLOAD), Closed(1), {"asked": "ensemble"})]
    points += [
        Point(target, target.member_caller(WORKLOAD, m), Closed(1), {"asked": m}) for m in target.members
    ]
    arrivals = poisson(40, EFFORT.warmup_s + EFFORT.seconds, seed=1)
    with SampleFile(path) as file:
        bench = Bench(Options("short", EFFORT), file)
        closed = bench.measure("closed", points)
        (opened,) = bench.measure(
            "open",
            [Point(target, target.caller(WORKLOAD), Open(arrivals, 40), {"rate": 40}, slo_ms=10_000)],
        )
    assert pq.read_metadata(path).num_rows > 0
    return {str(m.labels["asked"]): m for m in closed}, opened, dict(read_latencies(path))


def fastest_ms(point: Measured) -> float:
    return float(min(latency.min() for latency in point.latencies))


def test_the_injected_latency_shows_in_the_ensemble_and_in_its_member_alone(measured):
    points, _, _ = measured
    assert fastest_ms(points["ensemble"]) >= INJECTED_MS
    assert fastest_ms(points["slow"]) >= INJECTED_MS
    # The fastest of tens of requests hardly depends on what else the machine does.
    excess = fastest_ms(points["ensemble"]) - fastest_ms(points["quick"])
    assert INJECTED_MS - 10 <= excess <= INJECTED_MS + 40


def test_it_is_blamed_on_the_right_step(measured):
    points, _, _ = measured
    steps = {step.step: step for step in point_result(points["ensemble"]).steps}
    assert steps[WAITED].compute_ms >= INJECTED_MS
    assert steps[WAITED].compute_ms > 5 * (steps[GATE].compute_ms + steps[VOTE].compute_ms)
    members = {name: points[name].latencies for name in ("quick", "slow")}
    over, slowest = overhead(points["ensemble"].latencies, members)
    assert slowest == "slow"
    assert over.low <= over.value <= over.high
    assert over.value < float(np.median(points["ensemble"].latencies[0]))


def test_counts_agree_with_the_servers_own(measured):
    points, opened, _ = measured
    result = point_result(points["ensemble"])
    assert result.values["failed"].value == 0
    # Two members, all asked; requests that straddle an end of the window may be counted on one side only.
    for asked, calls in (("ensemble", 2), ("slow", 1)):
        straddling = 0.1 + 2 / min(run.answered for run in points[asked].runs)
        assert point_result(points[asked]).values["calls"].value == pytest.approx(calls, rel=straddling)
    values = point_result(opened).values
    assert values["failed"].value == 0
    # On a busy machine some answers of the window come after it, or into it.
    assert 10 <= values["throughput"].value <= 80
    assert 10 <= values["goodput"].value <= 80


def test_what_the_target_uses_is_seen(measured):
    points, _, _ = measured
    values = point_result(points["ensemble"]).values
    # A tritonserver and five Python processes.
    assert 100 < values["pss"].value < values["rss"].value
    assert 0 < values["cpu"].value < 1000
    assert values["generator_cpu"].value < 100


def test_samples_on_disk_give_the_same_latencies(measured):
    points, _, from_disk = measured
    for number, latency in enumerate(points["ensemble"].latencies):
        assert np.array_equal(from_disk["closed/asked=ensemble", number], latency)


def test_several_generators_share_the_load(target):
    generated = run_load(target.caller(WORKLOAD), Closed(4), 1.0, generators=2)
    assert np.all(generated.samples.ok)
    numbers = generated.samples.request.tolist()
    assert len(set(numbers)) == len(numbers)
    assert {number % 4 for number in numbers} == {0, 1, 2, 3}


def test_a_target_that_does_not_answer_ends_the_run_with_its_words(target):
    good = target.caller(WORKLOAD)
    wrong = CallerSpec(good.factory, {**good.settings, "url": "127.0.0.1:1"})
    with pytest.raises(LoadError, match="could not begin"):
        run_load(wrong, Closed(1), 1.0)


def test_one_command_gives_results_samples_report_and_a_line_to_quote(tmp_path):
    out = tmp_path / "out"
    ran = CliRunner().invoke(
        app, ["run", str(out), "-s", "overhead", "-s", "replay", "--seconds", "0.5", "--runs", "1"]
    )
    assert ran.exit_code == 0, ran.output
    results = read_results(out)
    measured, skipped = results.scenarios
    assert {str(p.labels["asked"]) for p in measured.points} == {"ensemble", *(f"m{i}" for i in range(5))}
    assert measured.findings[0].met is not None
    assert "--arrivals" in skipped.skipped
    assert set(results.metrics) == {metric.key for metric in METRICS}
    points = set(pq.read_table(out / "samples.parquet", columns=["point"])["point"].to_pylist())
    assert points == set(results.points())
    assert "ms (p50)" in ran.stdout
    assert (out / "report.html").stat().st_size > 10_000
    assert "Overhead" in (out / "summary.md").read_text("utf-8")


def test_recorded_arrivals_are_played_as_they_came(tmp_path, target):
    path = tmp_path / "arrivals.txt"
    path.write_text("".join(f"{1000 + second}\n" for second in (0, 0.1, 0.1, 0.4, 0.7)), encoding="utf-8")
    generated = run_load(target.caller(WORKLOAD), Open(replayed(path), 7), 5.0)
    sent = (generated.samples.intended_ns - generated.start_ns) / 1e6
    assert sent.tolist() == pytest.approx([0, 100, 100, 400, 700], abs=0.01)
    assert np.all(generated.samples.ok)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "nothing"], "there are overhead"),
        (["--prices", "nowhere.json"], "machine_per_hour"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path, arguments, words):
    ran = CliRunner().invoke(app, ["run", str(tmp_path / "out"), *arguments])
    assert ran.exit_code == 2
    assert words in " ".join(ran.output.split())
