# SPDX-License-Identifier: Apache-2.0
"""Compute quantiles, bootstrap intervals and exact binomial bounds; every formula once, NumPy only.

Shapes: ``n`` cells or values, ``c`` columns, ``R`` resamples. ``tail`` is the probability left out at each
end of an interval: 0.025 for 95 %. Equal seeds give equal results, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TAIL_95 = 0.025
RESAMPLES = 2000
# Resamples times products, 8 bytes each: large tables are drawn in parts.
_DRAWN_AT_ONCE = 5_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of 0; False where it is undefined."""
        return self.low > 0 or self.high < 0


def quantiles(values: npt.ArrayLike, qs: Sequence[float]) -> Floats:
    """Return (..., Q) quantiles of (..., n) values, linear between order statistics; ``qs`` are in [0, 1].

    Definition 7 of Hyndman & Fan, "Sample quantiles in statistical packages", The American Statistician
    50(4), 1996; NumPy's default.
    """
    return np.moveaxis(np.quantile(np.asarray(values, np.float64), qs, axis=-1), 0, -1)


def quantile(values: npt.ArrayLike, q: float) -> float:
    """Return one quantile; see :func:`quantiles`."""
    return float(quantiles(values, [q])[0])


def percentile_interval(draws: Floats, tail: float = TAIL_95) -> tuple[Any, Any]:
    """Return the ends of the percentile interval of (R,) or (R, c) draws: two scalars, or two (c,) arrays.

    Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.
    """
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap(
    values: npt.ArrayLike, statistic: Callable[..., Any], resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Return (R,) draws of a statistic of (n,) independent values, drawn with replacement.

    ``statistic`` is ``np.mean``, ``np.median``, ...; it is called with (R, n) values and ``axis=1``.
    """
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    return np.asarray(statistic(array[rng.integers(len(array), size=(resamples, len(array)))], axis=1))


def bootstrap_means(columns: Floats, products: npt.NDArray[np.int32], resamples: int, seed: int) -> Floats:
    """Return (R, c) means of (n, c) cells when whole products, (n,), are drawn with replacement.

    The cells of a product are not independent of each other, hence the cluster bootstrap (Davison & Hinkley,
    *Bootstrap Methods and their Application*, 1997, section 3.8).
    """
    names, index = np.unique(products, return_inverse=True)
    size = len(names)
    sums = np.stack([np.bincount(index, column, size) for column in columns.T], axis=1).astype(np.float64)
    cells = np.bincount(index, minlength=size).astype(np.float64)[:, None]
    return np.concatenate([own / count for own, count in bootstrap_sums([sums, cells], resamples, seed)])


def bootstrap_sums(
    sums: Sequence[Floats], resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[list[Floats]]:
    """Yield (r, k) sums of each (p, k) sums per product, when products are drawn with replacement; R in all.

    The draws are those of :func:`bootstrap_means`, so that figures can be compared draw by draw.
    """
    size = len(sums[0])
    rng, chances = np.random.default_rng(seed), np.full(size, 1.0 / size)
    at_once = max(1, _DRAWN_AT_ONCE // size)
    for begin in range(0, resamples, at_once):
        draws = rng.multinomial(size, chances, min(at_once, resamples - begin))
        yield [draws @ own for own in sums]


def means_over_products(
    columns: npt.ArrayLike,
    products: npt.NDArray[np.int32],
    tail: float = TAIL_95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """Return the mean of each column with its interval, bootstrapped over products.

    Args:
        columns: (n, c) values per cell; truth values count as 0 and 1.
        products: (n,) product of each cell.
        tail: Left out at each end.
        resamples: R.
        seed: Of the draws, which are the same for every column.
    """
    values = np.asarray(columns, np.float64)
    low, high = percentile_interval(bootstrap_means(values, products, resamples, seed), tail)
    means = [float(column.mean()) for column in values.T]
    return [Estimate(*figures) for figures in zip(means, low.tolist(), high.tolist(), strict=True)]


def mean_over_products(
    cells: npt.ArrayLike, products: npt.NDArray[np.int32], tail: float = TAIL_95
) -> Estimate:
    """Return the mean of one column, (n,) values; see :func:`means_over_products`."""
    return means_over_products(np.asarray(cells)[:, None], products, tail)[0]


def half_width(values: npt.ArrayLike) -> float:
    """Return half the 95 % interval of the mean of independent values, by the normal curve; nan for one."""
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return math.nan
    return float(1.96 * float(array.std(ddof=1)) / np.sqrt(len(array)))


def median_ratio(
    above: Floats, below: Floats, *, paired: bool, tail: float, resamples: int, seed: int = 0
) -> Estimate:
    """Return the median of ``above`` over the median of ``below``, with its bootstrap interval.

    Args:
        above: (n,) values.
        below: (m,) values.
        paired: Whether both have the same products in the same order; then pairs are drawn, and m is n.
        tail: Left out at each end.
        resamples: R.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for number in range(resamples):
        draw = rng.integers(0, len(below), len(below))
        other = draw if paired else rng.integers(0, len(above), len(above))
        ratios[number] = np.median(above[other]) / np.median(below[draw])
    low, high = percentile_interval(ratios, tail)
    return Estimate(quantile(above, 0.5) / quantile(below, 0.5), float(low), float(high))


def unseen_share(n: int, tail: float = TAIL_95) -> float:
    """Return the upper bound of a share that was 0 in ``n`` trials: about 3.7 / n at 95 %.

    Clopper & Pearson, Biometrika 26(4), 1934. A bootstrap of zeros alone has zero width.
    """
    return float(1 - tail ** (1 / n))


def binomial_tail(k: int, n: int, share: float) -> float:
    """Return the probability that ``k`` or more of ``n`` happen at a true share, in (0, 1).

    The exact binomial test (Clopper & Pearson 1934); with share 0.5 and ``n`` pairs that differ, the sign
    test, which is McNemar's exact one (Psychometrika 12, 1947).
    """
    if not k:
        return 1.0
    before = np.arange(k - 1)
    steps = np.log((n - before) / (before + 1)) + math.log(share / (1 - share))
    fewer = np.exp(n * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])).sum()
    return max(0.0, float(1 - fewer))


def is_surely_above(k: int, n: int, share: float, tail: float) -> bool:
    """Return whether ``k`` or more of ``n`` have a probability below ``tail`` at a true share ``share``.

    See :func:`binomial_tail`: by the normal curve one failure in ten would count as surely above one in a
    hundred.
    """
    if not k or share >= 1:
        return False
    return not share or binomial_tail(k, n, share) < tail
