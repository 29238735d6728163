# SPDX-License-Identifier: Apache-2.0
"""Score relevance and retrieval: Pearson, Spearman, AUC, nDCG@k, recall@k, with intervals over queries.

Shapes: ``n`` judged pairs, ``Q`` queries, ``R`` resamples. Pairs of one query are not independent of each
other, so intervals come from a bootstrap that draws whole queries (Davison & Hinkley, *Bootstrap Methods and
their Application*, 1997, section 3.8). A pair with weight ``w`` counts as ``w`` equal pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.evaluation.stats import RESAMPLES, Estimate, Floats, percentile_interval

Statistic = Callable[[Floats], float]
"""A figure as a function of (n,) weights of the pairs; nan where they leave it undefined."""
Places = npt.NDArray[np.intp]
"""(n,) place of each value among the different ones, in their order."""


def pearson(a: npt.ArrayLike, b: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Return Pearson's correlation of two (n,) columns; nan where one of them is constant."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    w = np.ones(len(x)) if weights is None else weights
    # By values: of a constant column rounding alone would be left as its spread.
    if any(len(column) < 2 or column.min() == column.max() for column in (x[w > 0], y[w > 0])):
        return float("nan")
    x, y = x - w @ x / w.sum(), y - w @ y / w.sum()
    return float(w @ (x * y) / np.sqrt((w @ (x * x)) * (w @ (y * y))))


def spearman(a: npt.ArrayLike, b: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Return Spearman's rank correlation of two (n,) columns, equal values at their mean rank."""
    return _spearman(_places(a), _places(b), weights)


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Return the area under the ROC curve: the chance that a positive pair has a higher score than another.

    Equal scores count half (Hanley & McNeil, Radiology 143(1), 1982).

    Args:
        scores: (n,).
        positive: (n,) truth values.
        weights: (n,); None: 1 each.

    Returns:
        In [0, 1]; nan without positive, or without negative pairs.
    """
    return _auc(_places(scores), np.asarray(positive, np.bool_), weights)


def agreement(scores: npt.ArrayLike, labels: npt.ArrayLike, relevant: npt.ArrayLike) -> dict[str, Statistic]:
    """Return how (n,) scores agree with (n,) labels and (n,) truth values; for many draws, sorted once.

    Returns:
        ``pearson`` and ``spearman`` with the labels, ``auc`` of the relevant pairs.
    """
    places, of_labels, is_positive = _places(scores), _places(labels), np.asarray(relevant, np.bool_)
    return {
        "pearson": lambda weights: pearson(scores, labels, weights),
        "spearman": lambda weights: _spearman(places, of_labels, weights),
        "auc": lambda weights: _auc(places, is_positive, weights),
    }


def ndcg_at(
    scores: npt.ArrayLike, gains: npt.ArrayLike, queries: npt.NDArray[np.integer[Any]], k: int
) -> Floats:
    """Return the nDCG@k of each query among its judged pairs (Jarvelin & Kekalainen, TOIS 20(4), 2002).

    Linear gains, discount 1 / log2(rank + 1). Equal scores share the gain of their ranks (McSherry & Najork,
    ECIR 2008), so that an order within them is worth nothing.

    Args:
        scores: (n,).
        gains: (n,), not negative.
        queries: (n,) number of the query of each pair.
        k: Ranks that count.

    Returns:
        (Q,) in the order of the queries' numbers; nan for queries without any gain.
    """
    rated, worth = np.asarray(scores, np.float64), np.asarray(gains, np.float64)
    names, index = np.unique(queries, return_inverse=True)
    found = np.full(len(names), np.nan)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(1, len(names)))
    for query, pairs in enumerate(np.split(order, starts) if len(names) else ()):
        best = _gain_at(worth[pairs], worth[pairs], k)
        if best > 0:
            found[query] = _gain_at(rated[pairs], worth[pairs], k) / best
    return found


def hits_at(top: npt.NDArray[np.integer[Any]], relevant: npt.NDArray[np.integer[Any]], k: int) -> Floats:
    """Return whether each relevant pair was retrieved; the mean is recall@k, micro-averaged over pairs.

    Args:
        top: (I, at least k) keyphrases (or items) retrieved for each of I items (or queries), best first.
        relevant: (n, 2) row of ``top``, and what is relevant to it.
        k: Ranks that count.

    Returns:
        (n,) 1 or 0.

    Raises:
        ValueError: Fewer than ``k`` were retrieved.
    """
    if top.shape[1] < k:
        raise ValueError(f"{top.shape[1]} were retrieved for each, recall@{k} needs {k}")
    found: Floats = (top[relevant[:, 0], :k] == relevant[:, 1:]).any(1).astype(np.float64)
    return found


def mean(values: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Return the mean of (n,) values, nan ones left out; nan where nothing is left."""
    column = np.asarray(values, np.float64)
    known = np.isfinite(column)
    w = known.astype(np.float64) if weights is None else np.where(known, weights, 0.0)
    total = w.sum()
    return float(w @ np.where(known, column, 0.0) / total) if total else float("nan")


class OverQueries:
    """Resamples of whole queries, the same for every figure, so that figures compare draw by draw."""

    def __init__(
        self, queries: npt.NDArray[np.integer[Any]], resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        """Prepare draws.

        Args:
            queries: (n,) number of the query of each pair (or value).
            resamples: R.
            seed: Of the draws; equal seeds give equal draws for equal sets of queries.
        """
        names, self._index = np.unique(queries, return_inverse=True)
        self._size, self._resamples, self._seed = len(names), resamples, seed

    def draws(self, *statistics: Statistic) -> Floats:
        """(R, s) values of s statistics."""
        rng = np.random.default_rng(self._seed)
        chances = np.full(self._size, 1 / self._size)
        found = np.empty((self._resamples, len(statistics)))
        for row in range(self._resamples):
            weights = rng.multinomial(self._size, chances).astype(np.float64)[self._index]
            found[row] = [statistic(weights) for statistic in statistics]
        return found

    def figure(self, statistic: Statistic) -> Estimate:
        """A figure with its interval."""
        return interval(statistic(np.ones(len(self._index))), self.draws(statistic)[:, 0])

    def difference(self, ours: Statistic, theirs: Statistic) -> Estimate:
        """Our figure less theirs, paired: both on the same queries in each draw."""
        whole = np.ones(len(self._index))
        draws = self.draws(ours, theirs)
        return interval(ours(whole) - theirs(whole), draws[:, 0] - draws[:, 1])


def interval(value: float, draws: Floats) -> Estimate:
    """A value with the percentile interval of its (R,) draws; undefined draws are left out."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Estimate(value, float("nan"), float("nan"))
    low, high = percentile_interval(known)
    return Estimate(value, float(low), float(high))


def _gain_at(scores: Floats, gains: Floats, k: int) -> float:
    """DCG@k, where equal scores have the mean gain of their group."""
    _, groups, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(groups, gains) / sizes
    ranked = np.repeat(means, sizes)[:k]
    return float((ranked / np.log2(np.arange(2, len(ranked) + 2))).sum())


def _places(values: npt.ArrayLike) -> Places:
    return np.unique(np.asarray(values, np.float64), return_inverse=True)[1]


def _below(places: Places, weights: Floats) -> Floats:
    """(n,) sum of the weights of smaller values, and half of that of equal ones."""
    sums = np.bincount(places, weights)
    return np.asarray((np.cumsum(sums) - sums / 2)[places])


def _spearman(a: Places, b: Places, weights: Floats | None) -> float:
    w = np.ones(len(a)) if weights is None else weights
    # Mean ranks up to a constant, which a correlation does not see.
    return pearson(_below(a, w), _below(b, w), weights)


def _auc(places: Places, is_positive: npt.NDArray[np.bool_], weights: Floats | None) -> float:
    w = np.ones(len(is_positive)) if weights is None else weights
    negatives = np.where(is_positive, 0.0, w)
    above, below = w[is_positive].sum(), negatives.sum()
    if not above or not below:
        return float("nan")
    return float(w[is_positive] @ _below(places, negatives)[is_positive] / (above * below))
