# SPDX-License-Identifier: Apache-2.0
"""Figures of relevance and retrieval, against SciPy and scikit-learn."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from quorum.evaluation import relevance as metrics


@pytest.fixture(scope="module")
def scipy_stats() -> ModuleType:
    """An oracle; it takes seconds to import, which every process that runs tests would spend."""
    return pytest.importorskip("scipy.stats", reason="the oracle is SciPy")


@pytest.fixture(scope="module")
def sk() -> ModuleType:
    """An oracle, likewise."""
    return pytest.importorskip("sklearn.metrics", reason="the oracle is scikit-learn")


@pytest.fixture(params=range(5))
def pairs(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, graded labels, queries and weights of whole numbers, among them 0."""
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 4, 200) / 3
    scores = np.round(labels + rng.normal(0, 0.7, 200), 1)
    return scores, labels, rng.permutation(200) % 20, rng.integers(0, 4, 200).astype(np.float64)


def test_correlations_equal_scipy(pairs, scipy_stats) -> None:
    scores, labels, _, weights = pairs
    repeated = [np.repeat(column, weights.astype(int)) for column in (scores, labels)]
    assert metrics.pearson(scores, labels) == pytest.approx(scipy_stats.pearsonr(scores, labels).statistic)
    assert metrics.pearson(scores, labels, weights) == pytest.approx(
        scipy_stats.pearsonr(*repeated).statistic
    )
    assert metrics.spearman(scores, labels) == pytest.approx(scipy_stats.spearmanr(scores, labels).statistic)
    assert metrics.spearman(scores, labels, weights) == pytest.approx(
        scipy_stats.spearmanr(*repeated).statistic
    )


def test_auc_equals_scikit_learn(pairs, sk) -> None:
    scores, labels, _, weights = pairs
    positive = labels > 0.5
    assert metrics.auc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores))
    assert metrics.auc(scores, positive, weights) == pytest.approx(
        sk.roc_auc_score(positive, scores, sample_weight=weights)
    )


@pytest.mark.parametrize("k", [1, 5, 100])
def test_ndcg_equals_scikit_learn(pairs, sk, k: int) -> None:
    scores, labels, queries, _ = pairs
    labels = labels + 0.01  # scikit-learn gives 0 to a query without gain
    expected = [
        sk.ndcg_score(labels[None, queries == query], scores[None, queries == query], k=k)
        for query in np.unique(queries)
    ]
    np.testing.assert_allclose(metrics.ndcg_at(scores, labels, queries, k), expected)


def test_a_query_without_gain_has_no_ndcg_and_is_left_out_of_the_mean() -> None:
    found = metrics.ndcg_at([1, 2, 1, 2], [0, 0, 1, 0], np.array([7, 7, 3, 3]), 10)
    assert found[0] == pytest.approx(1 / np.log2(3))
    assert np.isnan(found[1])
    assert metrics.mean(found) == found[0]
    assert np.isnan(metrics.mean(found, np.array([0.0, 1.0])))


def test_hits_count_relevant_pairs_among_the_first_k() -> None:
    top = np.array([[4, 2, 9], [1, 0, 3]])
    relevant = np.array([[0, 2], [0, 9], [1, 1], [1, 4]])
    assert metrics.hits_at(top, relevant, 2).tolist() == [1, 0, 1, 0]
    assert metrics.hits_at(top, relevant, 3).tolist() == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="recall@4 needs 4"):
        metrics.hits_at(top, relevant, 4)


@pytest.mark.parametrize(
    "found",
    [
        lambda: metrics.pearson([1, 2, 3], [0.1, 0.1, 0.1]),
        lambda: metrics.pearson(np.full(9, 1e8 + 0.1), np.arange(9)),
        lambda: metrics.spearman([5, 5, 5], [1, 2, 3]),
        lambda: metrics.auc([1, 2], [True, True]),
        lambda: metrics.auc([1, 2], [True, False], np.array([1.0, 0.0])),
    ],
)
def test_an_undefined_figure_is_nan(found) -> None:
    assert np.isnan(found())


def test_agreement_is_that_of_each_draw_alone() -> None:
    rng = np.random.default_rng(4)
    scores, labels, queries = rng.integers(0, 30, 200) / 8, rng.random(200), rng.integers(0, 20, 200)
    relevant = labels >= 0.5
    alone = [
        lambda w: metrics.pearson(scores, labels, w),
        lambda w: metrics.spearman(scores, labels, w),
        lambda w: metrics.auc(scores, relevant, w),
    ]
    found = metrics.agreement(scores, labels, relevant)
    assert [*found] == ["pearson", "spearman", "auc"]
    resampled = metrics.OverQueries(queries, 50)
    assert np.array_equal(resampled.draws(*found.values()), resampled.draws(*alone))


def test_whole_queries_are_drawn(scipy_stats) -> None:
    # All pairs of a query are equal, so only the number of queries decides how wide the interval is.
    queries = np.repeat(np.arange(30), 50)
    values = np.repeat(np.random.default_rng(1).normal(size=30), 50)
    found = metrics.OverQueries(queries).figure(lambda w: metrics.mean(values, w))
    once = values[::50]
    assert found.value == pytest.approx(once.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * once.std() / np.sqrt(30), rel=0.1)
    reference = scipy_stats.bootstrap((once,), np.mean, n_resamples=2000, method="percentile", rng=3)
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.05)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.05)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(2)
    queries = np.repeat(np.arange(40), 5)
    values = rng.normal(size=200) + 3 * rng.normal(size=40)[queries]
    resampled = metrics.OverQueries(queries, 500)
    found = resampled.difference(lambda w: metrics.mean(values + 0.1, w), lambda w: metrics.mean(values, w))
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)
    assert found.excludes_zero
    alone = resampled.figure(lambda w: metrics.mean(values, w))
    assert alone.high - alone.low > 0.5
    assert resampled.figure(lambda w: metrics.mean(values, w)) == alone


def test_draws_that_leave_a_figure_undefined_are_left_out() -> None:
    queries = np.array([0, 0, 1, 1])
    found = metrics.OverQueries(queries, 200).figure(
        lambda w: metrics.auc([1, 2, 3, 4], [False, False, True, True], w)
    )
    assert found == metrics.Estimate(1.0, 1.0, 1.0)
