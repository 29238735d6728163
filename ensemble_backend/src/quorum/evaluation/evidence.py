# SPDX-License-Identifier: Apache-2.0
"""Weigh the evidence, cell by cell, that a rate left its interval: an e-process against reference rates.

The evidence is the mean over moments of change ``k`` (half its mass on the first cell, half spread evenly
over every ``BLOCK``-th) and over rates ``q1`` beyond the bound ``q`` of

    prod_{t >= k} (q1 / q)^{x_t} ((1 - q1) / (1 - q))^{1 - x_t},

whose mean is at most 1 as long as no rate left its interval and cells are independent. Where the cells of one
product are not, the mean of their factors is the factor of the product. By Ville's inequality it then ever
exceeds ``1 / p`` with a probability of at most ``p``: testing after every cell is allowed.

Source: e-processes and Ville's inequality: Ramdas et al., arXiv:2210.01948; detecting a change by them: Shin,
Ramdas and Rinaldo, arXiv:2203.03532.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats

INTERVAL = 0.99
"""Coverage of the intervals of the reference rates."""
BLOCK = 50
"""Cells between two candidate moments of a change."""
_SHIFTS = (0.5, 1.0, 1.5)
_POOLING = 10.0
_QUANTILE = NormalDist().inv_cdf(0.5 + 0.5 * INTERVAL)

Outcomes = npt.NDArray[np.int8]
"""1: happened, 0: did not, -1: the cell says nothing."""
Strata = npt.NDArray[np.int64]
Products = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Rates:
    """Reference rate per stratum with its interval."""

    rate: Floats
    low: Floats
    high: Floats


def reference_rates(outcome: Outcomes, stratum: Strata, counts: Floats, strata: int, kinds: int) -> Rates:
    """Rates of a reference, by stratum.

    Strata are numbered ``attribute * kinds + kind``. The rate of each is shrunk to that of its kind; bounds
    are for a shift of all of them.

    Args:
        outcome: (n,) per row of the reference.
        stratum: (n,) of the row.
        counts: (n,) how many cells the row stands for.
        strata: Number of strata.
        kinds: Number of kinds.
    """
    known = outcome >= 0
    counts, stratum, hit = counts[known], stratum[known], outcome[known] == 1
    total = np.bincount(stratum, counts, strata).reshape(-1, kinds)
    hits = np.bincount(stratum, counts * hit, strata).reshape(-1, kinds)
    usual = (hits.sum(axis=0) + 0.5) / (total.sum(axis=0) + 1.0)
    rate = (hits + _POOLING * usual) / (total + _POOLING)
    width = _QUANTILE / math.sqrt(float((total * rate * (1.0 - rate)).sum()) + 0.25)
    rate = rate.reshape(-1)
    return Rates(rate, shifted(rate, -width), shifted(rate, width))


def shifted(rate: Floats, by: float | Floats) -> Floats:
    """Rates whose log odds are higher by ``by``."""
    odds = rate / (1.0 - rate) * np.exp(by)
    return np.asarray(odds / (1.0 + odds))


def evidence(outcome: Outcomes, bound: Floats, up: bool, products: Products | None = None) -> Floats:
    """(n,) logarithm of the e-process after each cell, against rates beyond (n,) bounds, see the module.

    With (n,) ``products`` the cells of one, wherever they stand, count as one, at the last of them.
    """
    runs = []
    for shift in _SHIFTS if up else [-shift for shift in _SHIFTS]:
        # Log odds differ by the shift, so that is what the two likelihood ratios differ by.
        miss = np.log((1.0 - shifted(bound, shift)) / (1.0 - bound))
        gains = (miss + shift * (outcome == 1)) * (outcome >= 0)
        runs.append(_since_any_start(gains if products is None else _joined(gains, outcome >= 0, products)))
    return np.asarray(np.logaddexp.reduce(np.array(runs), axis=0) - math.log(len(_SHIFTS)))


def _since_any_start(gains: Floats) -> Floats:
    """(n,) logarithm of the mean, over moments of change, of what the likelihood ratios since then make."""
    n = len(gains)
    starts = np.arange(0, n, BLOCK)
    mass = np.full(len(starts), 0.5 / max(len(starts) - 1, 1))
    mass[0] = 0.5 if len(starts) > 1 else 1.0
    later = np.append(np.cumsum(mass[::-1])[::-1][1:], 0.0)
    block = np.arange(n) // BLOCK
    with np.errstate(divide="ignore"):
        waiting = np.log(later)[block]
    total = np.cumsum(gains)
    at_start = np.append(0.0, total)[starts]
    running = np.logaddexp.accumulate(np.log(mass) - at_start)
    return np.asarray(np.logaddexp(running[block] + total, waiting))


def _joined(gains: Floats, known: npt.NDArray[np.bool_], products: Products) -> Floats:
    """(n,) gains where the last cell of each product has the gain of all, and the others have none."""
    names, backwards, number = np.unique(products[::-1], return_index=True, return_inverse=True)
    last, number = len(products) - 1 - backwards, number[::-1]
    cells = np.bincount(number, known, len(names))
    ratios = np.bincount(number, np.exp(gains) * known, len(names))
    joined = np.zeros(len(gains))
    joined[last] = np.log(np.where(cells > 0, ratios, 1.0) / np.maximum(cells, 1.0))
    return joined


def noticeable(rates: Rates, cells: Strata, bar: float) -> float | None:
    """Lowest mean rate at which the evidence is expected to reach the bar by the end of the day.

    ``cells`` is the day's number of cells per stratum; None: no rate is high enough.
    """
    true = shifted(rates.rate, np.arange(0.1, 6.0, 0.1)[:, None])
    shifts = np.array(_SHIFTS)[:, None]
    miss = np.log((1.0 - shifted(rates.high, shifts)) / (1.0 - rates.high))
    gain = (true * cells) @ (miss + shifts).T + ((1.0 - true) * cells) @ miss.T
    enough = np.flatnonzero(gain.max(axis=1) - math.log(2.0 * len(_SHIFTS)) >= bar)
    return float(true[enough[0]] @ cells / cells.sum()) if len(enough) else None
