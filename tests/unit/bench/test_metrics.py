# SPDX-License-Identifier: Apache-2.0
"""Every metric on a run whose figures were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.metrics import ALL, BY_KEY, NoValue
from quorum_bench.metrics.graph import overhead, steps_of
from quorum_bench.scenarios.accuracy import pareto

BY_HAND = {
    "latency_p50": 5.0,
    "latency_p90": 5.0,
    "latency_p95": 5.0,
    "latency_p99": 5.0,
    "latency_max": 5.0,
    "throughput": 100.0,
    "goodput": 100.0,
    "failed": 0.0,
    "calls": 1.5,  # 100 calls of a and 50 of b for 100 answers
    "cpu": 5.0,  # half a second for 100 answers
    "cost": 10.1,  # (3.6 / 3600 s of machine + 100 calls x 120 per million) / 100 answers x 1000
    "prompt_tokens": 15_000.0,
    "output_tokens": 2_000.0,
    "rss": 300.0,
    "pss": 200.0,
    "gpu_memory": 3.0,
    "cpu_energy": 300.0,
    "gpu_energy": 500.0,
    "lateness_p99": 0.0,
    "generator_cpu": 20.0,
    "neighbours_cpu": 0.05,
}


REFUSALS = ("refusal_p50", "refusal_p99")


@pytest.mark.parametrize("key", BY_HAND)
def test_by_hand(make_run, key):
    expected = BY_HAND[key] if key != "cost" else (0.001 + 100 * (100 + 20) / 1e6) / 100 * 1000
    assert BY_KEY[key].of(make_run()) == pytest.approx(expected)


def test_all_are_covered_and_say_what_they_are():
    assert set(BY_HAND) | {"first_token", "accuracy", "aggregation", "recovery", "bulk", *REFUSALS} == {
        metric.key for metric in ALL
    }
    assert all(metric.unit and metric.formula and metric.title for metric in ALL)


def test_percentiles_of_a_known_series(make_run):
    run = make_run(np.arange(1, 102, dtype=float))
    found = {key: BY_KEY[f"latency_{key}"].of(run) for key in ("p50", "p90", "p99", "max")}
    assert found == {"p50": 51, "p90": 91, "p99": 100, "max": 101}


def test_failed_requests_have_no_latency_and_no_throughput(make_run):
    run = make_run((5.0,) * 50 + (900.0,) * 50, status=[0] * 50 + [14] * 50)
    assert BY_KEY["latency_max"].of(run) == 5
    assert BY_KEY["throughput"].of(run) == 50
    assert BY_KEY["failed"].of(run) == 50
    assert [BY_KEY[key].of(run) for key in REFUSALS] == [900, 900]


def test_without_a_refusal_there_is_no_time_of_one(make_run):
    for key in REFUSALS:
        with pytest.raises(NoValue, match="nothing was refused"):
            BY_KEY[key].of(make_run())


def test_late_answers_are_no_goodput(make_run):
    assert BY_KEY["goodput"].of(make_run((5.0,) * 60 + (7.0,) * 40)) == 60


def test_lateness_is_part_of_the_latency(make_run):
    run = make_run((9.0,) * 100, late_ms=4.0)
    assert BY_KEY["lateness_p99"].of(run) == pytest.approx(4)
    assert BY_KEY["latency_p50"].of(run) == pytest.approx(9)


@pytest.mark.parametrize(
    ("key", "changes", "words"),
    [
        ("goodput", {"slo_ms": None}, "objective"),
        ("cost", {"prices": None}, "--prices"),
        ("cost", {"tokens": {}}, "not known"),
        ("prompt_tokens", {"tokens": {}}, "no tokeniser"),
        ("gpu_energy", {"gpu_w": None}, "no GPU"),
        ("first_token", {}, "not streamed"),
        ("accuracy", {}, "no gold"),
        ("throughput", {"latency_ms": ()}, None),
        ("latency_p50", {"latency_ms": ()}, "nothing was answered"),
        ("cpu", {"latency_ms": ()}, "nothing was answered"),
        ("calls", {"latency_ms": ()}, "nothing was answered"),
    ],
)
def test_what_cannot_be_said_is_not_made_up(make_run, key, changes, words):
    run = make_run(**changes)
    if words is None:
        assert BY_KEY[key].of(run) == 0
        return
    with pytest.raises(NoValue, match=words):
        BY_KEY[key].of(run)


def test_calls_and_cost_are_what_answers_say(make_run):
    assert BY_KEY["calls"].of(make_run(calls=1.75)) == 1.75
    assert BY_KEY["cost"].of(make_run(prices=None, cost=0.002)) == 2.0
    assert BY_KEY["cost"].of(make_run(cost=0.002)) != 2.0, "prices that were given count"
    with pytest.raises(NoValue, match=r"`price` of members"):
        BY_KEY["cost"].of(make_run(prices=None))


def test_steps_are_means_per_request_of_the_window(make_run):
    steps = steps_of(make_run())
    assert (steps["a"].count, steps["a"].queue_ms, steps["a"].compute_ms) == (100, 1.0, 3.0)
    assert (steps["b"].count, steps["b"].queue_ms, steps["b"].compute_ms) == (50, 0.0, 1.0)


def test_overhead_is_over_the_slowest_member_and_its_interval_holds_the_truth():
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def runs(base, rng=rng):
            return [base + rng.exponential(1.0, 300) for _ in range(3)]

        found, slowest = overhead(runs(7.0), {"quick": runs(1.0), "slow": runs(5.0)})
        assert slowest == "slow"
        covered += found.low <= 2.0 <= found.high
    # 95 % intervals from three runs; they may be too wide, but must not be too narrow.
    assert covered >= 17


def test_the_pareto_front_is_what_nobody_beats():
    points = [(1, 70), (1, 80), (3, 80), (3, 85), (2, 84), (5, 85)]
    assert pareto(points) == [False, True, False, True, True, False]
