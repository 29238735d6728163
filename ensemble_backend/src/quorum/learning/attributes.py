# SPDX-License-Identifier: Apache-2.0
"""Choose for each attribute between equal, common and own weights, by what they gain and may cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, Rule, agreeing, decide_rows, leaders
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import NA
from quorum.learning.design import Design
from quorum.learning.hierarchy import Prior, at_center, fit_hierarchy

RIDGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
USUAL_RIDGE = 0.5
"""Members usually differ between attributes by about 1.4 in log odds; evidence may say otherwise."""
HURT, PRICE = 0.01, 0.8
"""An attribute is hurt if it loses more than this share of its cells; a chance of that costs this much."""
SAFE = (((0.02, 0.05),), ((0.02, 0.1), (0.05, 0.0075)))
"""Common weights are safe if, for all pairs of a row, attributes that lose more than the first number by
them hold at most the second of all cells: hardly any lose two points; or some do, but hardly any five."""
KINDS = ("equal", "common", "own")
NONE_RIDGE = 3.0
_DRAWS = 512
_MAX_ROWS = 256


class ByAttribute(NamedTuple):
    """Parameters of each attribute.

    Attributes:
        theta: (g, d) parameters, see :class:`quorum.learning.design.Design`; weights are >= 0.
        kinds: (g,) index of :data:`KINDS` that each attribute's weights are.
        base: Index of what an attribute has unless weights of its own are worth it: equal or common.
        worth: Share of all cells that weights of their own are expected to gain on what attributes have else.
        gain: (g,) share of the attribute's cells that its weights are expected to gain on equal ones.
        spread: (g,) standard deviation of that gain.
        ridge: How strongly attributes are pulled to their mean, geometric mean over the posterior.
    """

    theta: Floats
    kinds: npt.NDArray[np.int64]
    base: int
    worth: float
    gain: Floats
    spread: Floats
    ridge: float


def fit_attributes(
    design: Design, cells: Histogram, common: Floats, prior: Prior, equal: Floats
) -> ByAttribute:
    """Give weights of their own to attributes that are expected to gain by them, and unlikely to lose.

    Labels give a posterior of each attribute's parameters (:func:`fit_hierarchy`, the ridge averaged by
    evidence). Under draws from it, the decisions of candidate weights on *all* cells of the attribute, most
    of them without a label, have an expected accuracy. Where common weights are likely to make attributes
    worse than equal ones, equal weights are what an attribute starts with, else the common ones. Own weights
    replace these where the expected gain exceeds the chance of a loss times :data:`PRICE`.

    Args:
        design: The labelled cells, one group per attribute.
        cells: All cells, same groups; their gold is not used. A further column, if any, is that of parts as
            in the design, -1 for cells without a label: theirs are not known.
        common: (d,) parameters fitted to all attributes together.
        prior: Of the attributes' mean.
        equal: (g, d) equal weights, calibrated.
    """
    m = design.members
    theta, ridge, draws = _posterior(design, prior)
    theta[:, :m] = np.maximum(theta[:, :m], 0.0)
    candidates = (equal, np.repeat(common[None], len(theta), axis=0), theta)
    gains = _gains(cells, m, candidates, draws)
    sizes = np.bincount(cells.groups, cells.counts, len(theta))
    shares = sizes / sizes.sum()
    base = _base(gains[1], shares)
    extra = gains[2] - gains[base]
    own = extra.mean(axis=1) > PRICE * (extra < -HURT).mean(axis=1)
    kinds = np.where(own, 2, base)
    at = np.arange(len(theta))
    chosen, gain = np.stack(candidates)[kinds, at], gains[kinds, at]
    worth = float(shares @ np.where(own, extra.mean(axis=1), 0.0))
    return ByAttribute(chosen, kinds, base, worth, gain.mean(axis=1), gain.std(axis=1), ridge)


def _base(gains: Floats, shares: Floats) -> int:
    """Common weights if they gain, and few cells are in attributes that they are likely to make worse."""
    safe = any(all(shares @ (gains < -loss).mean(axis=1) <= share for loss, share in row) for row in SAFE)
    return int(safe and float(shares @ gains.mean(axis=1)) >= 0.0)


def _posterior(design: Design, prior: Prior) -> tuple[Floats, float, Floats]:
    """(g, d) posterior means of the attributes' parameters, typical ridge, and (g, draws, d) draws."""
    fits, found = [], at_center(prior, design.n_groups)
    for ridge in RIDGES:
        ridges = np.full(len(prior.center), ridge)
        ridges[-1] = NONE_RIDGE
        found = fit_hierarchy(design.loss, prior, ridges, found)
        fits.append(found)
    logs = np.log(np.array(RIDGES))
    height = np.array([fit.evidence for fit in fits]) - (logs - math.log(USUAL_RIDGE)) ** 2
    share = np.exp(height - height.max())
    share /= share.sum()
    theta = np.asarray(sum(part * fit.theta for part, fit in zip(share, fits, strict=True)))
    ends = np.rint(np.cumsum(share) * (_DRAWS // 2)).astype(np.int64)
    normal = np.random.default_rng(0).standard_normal((_DRAWS // 2, theta.shape[1]))
    parts, begin = [], 0
    for fit, end in zip(fits, ends.tolist(), strict=True):
        away = np.einsum("gij,sj->gsi", _root(fit.covariance), normal[begin:end])
        # Pairs of opposite draws: their mean is exact.
        parts += [fit.theta[:, None] + away, fit.theta[:, None] - away]
        begin = end
    return theta, float(np.exp(share @ logs)), np.concatenate(parts, axis=1)


def _root(covariance: Floats) -> Floats:
    """(g, d, d) symmetric square roots."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[:, None]) @ vectors.transpose(0, 2, 1))


def _gains(cells: Histogram, members: int, candidates: tuple[Floats, ...], draws: Floats) -> Floats:
    """(k, g, draws) share of an attribute's cells that each candidate gets right more than the first."""
    winners = [_winners(cells, members, theta) for theta in candidates]
    differs = np.any([winner != winners[0] for winner in winners[1:]], axis=0)
    sizes = np.bincount(cells.groups, cells.counts, len(draws))
    gains = np.zeros((len(candidates), *draws.shape[:2]))
    for group in np.unique(cells.groups[differs]):
        rows, counts = _drawn(np.flatnonzero(differs & (cells.groups == group)), cells.counts)
        right = _probabilities(cells.codes[rows], members, draws[group])
        at = np.arange(len(rows))
        base = right[at, winners[0][rows]]
        for gain, winner in zip(gains[1:], winners[1:], strict=True):
            gain[group] = counts @ (right[at, winner[rows]] - base)
    return np.asarray(gains / np.maximum(sizes, 1e-300)[:, None])


def _winners(cells: Histogram, members: int, theta: Floats) -> npt.NDArray[np.int64]:
    """(r,) first member that named the winner; ``members`` where all abstained."""
    codes, parts = cells.codes[:, :members], cells.codes[:, members:]
    bias = theta[:, members] if parts.shape[1] else None
    rule = Rule(theta[:, :members], theta[:, -2], None, bias)
    part = parts[:, 0] if parts.shape[1] else None
    winner = decide_rows(codes, rule, cells.groups, part).winner.astype(np.int64)
    named = np.take_along_axis(codes, np.maximum(winner, 0)[:, None], axis=1)
    return np.where(winner < 0, members, (codes == named).argmax(axis=1))


def _drawn(rows: npt.NDArray[np.int64], counts: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Rows and their counts; of very many, cells at even distances stand for all."""
    if len(rows) <= _MAX_ROWS:
        return rows, counts[rows]
    ends = np.cumsum(counts[rows])
    at = np.searchsorted(ends, (np.arange(_MAX_ROWS) + 0.5) * (ends[-1] / _MAX_ROWS))
    return rows[at], np.full(_MAX_ROWS, ends[-1] / _MAX_ROWS)


def _probabilities(codes: npt.NDArray[np.int8], members: int, draws: Floats) -> Floats:
    """(r, members + 1, draws) chance of each candidate, at its first member, and of "none of these" last."""
    lead = leaders(codes)[:, :members]
    # Columns: the members, and the one of parts if there is one.
    named = (agreeing(codes)[:, :members] & lead[:, :, None]).astype(np.float64)
    codes = codes[:, :members]
    scores = np.empty((len(codes), members + 1, len(draws)))
    scores[:, :members] = named @ draws[:, : named.shape[2]].T
    scores[:, :members] += (lead & (codes == NA))[:, :, None] * draws[:, -2]
    scores[:, :members] = np.where(lead[:, :, None], scores[:, :members], -np.inf)
    scores[:, members] = draws[:, -1]
    terms = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))
