# SPDX-License-Identifier: Apache-2.0
"""Draw runs, and blocks of requests within them: the part of the statistics that only a benchmark has.

Requests of one run are not independent (a pause hits neighbours), and runs differ from each other. So runs
are drawn with replacement, and inside each drawn run blocks of neighbouring requests are (moving blocks,
Kuensch, Annals of Statistics 17(3), 1989). With few runs the interval can only span what those runs
showed. Quantiles, percentile intervals and the plain bootstrap are those of :mod:`quorum.evaluation.stats`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quorum.evaluation.stats import Estimate, Floats, bootstrap, percentile_interval, quantiles

DRAWS = 400
_TAIL = (1 - 0.95) / 2
# Draws times requests, 8 bytes each: a long run is drawn in parts.
_DRAWN_AT_ONCE = 1_000_000


def interval_of(value: float, draws: Floats) -> Estimate:
    """Return a value with the 95 % percentile interval of its draws, widened to hold the value itself.

    Few runs make few distinct draws, whose percentiles may all lie on one side of the value.
    """
    low, high = percentile_interval(draws, _TAIL)
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def quantile_draws(runs: Sequence[Floats], qs: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Floats:
    """Bootstrap draws of the median over runs of each run's quantiles.

    Args:
        runs: Per run its observations in the order of time; none may be empty.
        qs: ``Q`` quantiles, each in [0, 1].
        seed: Of the draws.
        draws: How many.

    Returns:
        FLOAT64 [Q, draws].
    """
    rng = np.random.default_rng(seed)
    tables = np.stack([_resampled(run, qs, rng, draws) for run in runs])
    run = rng.integers(len(runs), size=(draws, len(runs)))
    draw = rng.integers(draws, size=(draws, len(runs)))
    return np.asarray(np.median(tables[run, draw], axis=1).T)


def median_draws(values: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Floats:
    """Bootstrap draws of the median of one value a run."""
    return bootstrap(values, np.median, draws, seed)


def slope(x: Sequence[float], runs: Sequence[Sequence[float]], seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Least-squares slope of the per-point medians of ``runs`` over ``x``; runs are resampled per point."""
    at = np.asarray(x, np.float64)
    centred = at - at.mean()

    def fit(y: Floats) -> float:
        return float(centred @ (y - y.mean()) / (centred @ centred))

    value = fit(np.array([np.median(r) for r in runs]))
    tables = np.stack([median_draws(r, seed + i, draws) for i, r in enumerate(runs)])
    return interval_of(value, np.array([fit(tables[:, d]) for d in range(draws)]))


def _resampled(run: Floats, qs: Sequence[float], rng: np.random.Generator, draws: int) -> Floats:
    count = len(run)
    block = max(1, round(count ** (1 / 3)))
    out = np.empty((draws, len(qs)))
    at_once = max(1, _DRAWN_AT_ONCE // count)
    for begin in range(0, draws, at_once):
        some = min(at_once, draws - begin)
        starts = rng.integers(count, size=(some, -(-count // block)))
        index = (starts[:, :, None] + np.arange(block)).reshape(some, -1) % count
        out[begin : begin + some] = quantiles(run[index], qs)
    return out


def ratio_of_medians(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Median of ``above`` over median of ``below``, each one value a run, with its interval."""
    draws = median_draws(above, 1) / median_draws(below, 2)
    return interval_of(float(np.median(above) / np.median(below)), draws)


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Median of the ratios of runs that were made right after each other, with its interval.

    Args:
        above: One value a run.
        below: Of the other side, run by run.

    Raises:
        ValueError: Not as many runs.
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return interval_of(float(np.median(ratios)), median_draws(ratios))
