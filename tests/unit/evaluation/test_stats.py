# SPDX-License-Identifier: Apache-2.0
"""The statistics against exact sums, hand arithmetic and figures of earlier runs."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from quorum.evaluation.stats import (
    bootstrap,
    bootstrap_means,
    is_surely_above,
    mean_over_products,
    median_ratio,
    percentile_interval,
    quantile,
    unseen_share,
)


def at_least(k, n, share):
    return math.fsum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize("n", [1, 7, 60, 400])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.9, 1.0])
def test_surely_above_is_the_exact_binomial_test(n, share):
    for k in range(min(n, 60) + 1):
        exact = at_least(k, n, share)
        if abs(exact - 0.025) > 1e-9:
            assert is_surely_above(k, n, share, 0.025) is (exact < 0.025), k


def test_the_bound_of_a_share_that_was_never_seen_is_exact():
    for n in (1, 30, 3000):
        assert (1 - unseen_share(n, 0.025)) ** n == pytest.approx(0.025)
    assert unseen_share(1000) == pytest.approx(3.7 / 1000, rel=0.01)


def test_quantiles_interpolate():
    assert quantile([4, 1, 2], 0.5) == 2
    assert quantile([1, 2], 0.95) == pytest.approx(1.95)
    assert quantile([5.0], 0.99) == 5


def test_intervals_leave_out_a_tail_at_each_end():
    draws = np.arange(1001, dtype=float)
    assert percentile_interval(draws) == (25, 975)
    assert percentile_interval(draws, 0.1) == (100, 900)
    low, high = percentile_interval(np.stack([draws, 2 * draws], axis=1))
    assert (low.tolist(), high.tolist()) == ([25, 50], [975, 1950])


def test_the_mean_over_products_is_as_wide_as_its_products_are_few():
    rng = np.random.default_rng(0)
    hits = rng.random(200) < 0.7
    alone = mean_over_products(np.repeat(hits, 5), np.arange(1000, dtype=np.int32))
    together = mean_over_products(np.repeat(hits, 5), np.repeat(np.arange(200, dtype=np.int32), 5))
    assert alone.value == together.value == hits.mean()
    assert together.high - together.low > 1.9 * (alone.high - alone.low)


def test_a_bootstrap_spreads_as_the_mean_does():
    rng = np.random.default_rng(1)
    values = rng.normal(10, 2, 400)
    means = bootstrap(values, np.mean, 4000)
    assert means.shape == (4000,)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.05)


def test_pairs_take_out_what_both_sides_share():
    rng = np.random.default_rng(2)
    products = rng.exponential(20.0, 300)
    paired = median_ratio(1.1 * products, products, paired=True, tail=0.025, resamples=500)
    apart = median_ratio(1.1 * products, products, paired=False, tail=0.025, resamples=500)
    assert paired.value == pytest.approx(1.1)
    assert (paired.low, paired.high) == pytest.approx((1.1, 1.1))
    assert apart.low < 1 < 1.2 < apart.high


def test_equal_seeds_give_the_figures_of_earlier_versions():
    """Published accuracies carry these intervals. Only the order in which BLAS adds may differ by machine."""
    columns = np.random.default_rng(3).random((30, 2))
    products = np.repeat(np.arange(10, dtype=np.int32), 3)
    means = bootstrap_means(columns, products, 100, 7)
    assert means[-1].tolist() == pytest.approx([0.6139647898933627, 0.4517463421145104], rel=1e-12)
    found = mean_over_products(columns[:, 0], products)
    expected = [0.5194596245938438, 0.4380025547396471, 0.5995473408577083]
    assert [found.value, found.low, found.high] == pytest.approx(expected, rel=1e-12)


def test_the_module_needs_numpy_only():
    code = (
        "import sys, quorum.evaluation.stats\n"
        "print([m for m in ('yaml', 'pydantic', 'pyarrow', 'typer', 'grpc', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
