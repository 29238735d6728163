# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.bootstrap import (
    interval_of,
    median_draws,
    paired_ratio,
    quantile_draws,
    ratio_of_medians,
    slope,
)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_quantile_intervals_cover(q):
    truth = -np.log(1 - q)
    covered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        runs = [rng.exponential(1.0, 400) for _ in range(3)]
        value = float(np.median([np.quantile(run, q) for run in runs]))
        interval = interval_of(value, quantile_draws(runs, [q], seed)[0])
        assert interval.low <= value <= interval.high
        covered += interval.low <= truth <= interval.high
    assert covered >= 26


def test_several_quantiles_at_once_are_ordered():
    rng = np.random.default_rng(0)
    draws = quantile_draws([rng.exponential(1.0, 500)], [0.5, 0.9, 0.99])
    assert draws.shape == (3, 400)
    assert np.all(np.diff(draws, axis=0) >= 0)


def test_dependent_requests_widen_the_interval():
    rng = np.random.default_rng(1)
    independent = rng.normal(10, 1, 1000)
    dependent = np.repeat(rng.normal(10, 1, 100), 10)
    widths = [
        np.ptp(np.quantile(quantile_draws([x], [0.5])[0], [0.025, 0.975])) for x in (independent, dependent)
    ]
    assert widths[1] > 2 * widths[0]


def test_one_run_gives_its_own_value():
    assert set(median_draws([3.0]).tolist()) == {3.0}


def test_the_slope_of_a_line():
    found = slope([1, 2, 4, 8], [[2 + 3 * x - 0.01, 2 + 3 * x, 2 + 3 * x + 0.01] for x in (1, 2, 4, 8)])
    assert found.value == pytest.approx(3)
    assert found.low <= 3 <= found.high
    assert found.high - found.low < 0.02


def test_pairs_see_through_a_machine_that_changes():
    """Both sides slow down together, up to fourfold: a tenth of difference stands out in pairs alone."""
    rng = np.random.default_rng(2)
    machine = rng.uniform(1.0, 4.0, 12)
    below, above = machine, 1.1 * machine * rng.normal(1.0, 0.01, 12)
    paired = paired_ratio(list(above), list(below))
    apart = ratio_of_medians(list(above), list(below))
    assert 1.05 < paired.low < paired.value < paired.high < 1.15
    assert apart.low < 1.0 < apart.high


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1.0], [1.0, 2.0])
