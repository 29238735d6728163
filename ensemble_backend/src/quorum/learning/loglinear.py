# SPDX-License-Identifier: Apache-2.0
"""Conditional logit over the candidates of a cell, learned from gold labels; the default from 50 labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, decide
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import Codes, Keys
from quorum.learning.blocs import find_bloc
from quorum.learning.design import Design, Fit, fit_around
from quorum.learning.em import MIN_MEMBERS, OneCoin
from quorum_contract.errors import QuorumError

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
GROUP_RIDGES = (3.0, 10.0, 30.0, 100.0)
NA_RIDGES = (1.0, 10.0)
GOLD_FOR_GROUPS = 1000
_INTERCEPT_RIDGE = 0.05
_GROUP_INTERCEPT_RIDGE = 3.0
_USUAL_SCALE = 1.5


class NoGoldError(QuorumError, ValueError):
    """There is no labelled cell to learn from."""

    code = "NO_GOLD"


@dataclass(eq=False, repr=False)
class LogLinear:
    """Weights, n/a bias and calibrated confidence in one fit of ``members + 2`` parameters.

    Score of a candidate: sum of the weights ``v_j >= 0`` of the members naming it, plus ``na_bias`` if it
    is "n/a", plus ``part_bias`` if it is part of others; "none of these" scores ``none_bias``. P(candidate is
    right) is the softmax of the scores. The penalised likelihood is maximised by damped Newton with line
    search. The ridge shrinks the weights towards a prior scaled to the gold: equal weights, those of
    :class:`~quorum.learning.em.OneCoin`, or those of :func:`~quorum.learning.blocs.find_bloc`. Laplace
    evidence chooses prior and ridge. Unlike independent log-odds, the fit discounts members that repeat each
    other. From 1000 gold labels on, groups may deviate, level by level, each shrunk towards the level above;
    the evidence chooses how strongly, and whether at all.

    Source: McFadden 1974, Conditional Logit Analysis of Qualitative Choice Behavior; evidence: MacKay 1992,
    doi:10.1162/neco.1992.4.3.415.

    Attributes:
        ridge: Strength of the shrinkage to the prior; None: by evidence; inf gives the prior itself.
        prior: (m,) direction of the prior; None: equal or one-coin weights, by evidence.
        na_bias: Learn a bias for "n/a"; without it "n/a" is a value like any other.
        labels: L for the one-coin prior.
        levels: From coarse to fine, per level (g,) the group there of each group of the histogram; every
            level must split the one before it.
        gold_for_groups: Fewest labelled cells with which groups may deviate.
        rule_: One row per group of the last level, calibrated; the same for all if they do not deviate.
        default_: The row for groups without gold.
        levels_: Rows of every level, the first one with one row.
        ridge_: The ridge chosen for the global weights.
        group_ridges_: Per level below, the ridge chosen for its weights; inf: no deviation.
        prior_: (m,) the weights that the ridge shrinks towards.
        gold_: Number of labelled cells.
    """

    ridge: float | None = None
    prior: Floats | None = None
    na_bias: bool = True
    labels: float = 10.0
    levels: Sequence[npt.NDArray[np.int32]] = ()
    gold_for_groups: float = GOLD_FOR_GROUPS
    rule_: Rule = field(init=False)
    default_: Rule = field(init=False)
    levels_: list[Rule] = field(init=False)
    ridge_: float = field(init=False)
    group_ridges_: list[float] = field(init=False)
    prior_: Floats = field(init=False)
    gold_: float = field(init=False)
    _members: int = field(init=False)
    _answered: npt.NDArray[np.bool_] = field(init=False)

    def fit(self, hist: Histogram, gold: Histogram | None = None) -> LogLinear:
        """Learn from the labelled rows; the unlabelled ones only inform the prior.

        Args:
            hist: All cells.
            gold: The labelled cells again, with one more column: the code of the value that is part of
                others, see :func:`quorum.decision.parts.find_part`. None: parts get no bias.

        Raises:
            NoGoldError: No labelled cell.
        """
        self._members = hist.members
        self._answered = hist.active
        gold = hist.labelled() if gold is None else gold.labelled()
        self.gold_ = gold.total
        if not self.gold_:
            raise NoGoldError("no labelled cell: label some, or learn without gold (em)")
        theta = self._fit_global(hist.pooled(), Design(gold.pooled(), members=self._members))
        self.default_ = self._as_rule(theta)
        self.levels_, self.group_ridges_ = [self.default_], []
        above = np.zeros(hist.n_groups, np.int32)
        for level in self.levels:
            theta = theta[_parents(above, level)]
            ridge = math.inf
            if self.gold_ >= self.gold_for_groups:
                design = Design(gold.regrouped(level), len(theta), self._members)
                theta, ridge = self._deviate(design, theta)
            self.levels_.append(self._as_rule(theta))
            self.group_ridges_.append(ridge)
            above = level
        self.rule_ = self.levels_[-1]
        return self

    def predict(self, codes: Codes, groups: Keys | None = None, parts: Codes | None = None) -> Decision:
        """Decide (n, m) codes; (n,) groups of the last level, None: without groups; (n,) codes of parts."""
        return decide(codes, self.default_ if groups is None else self.rule_, groups, parts)

    def _fit_global(self, hist: Histogram, design: Design) -> Floats:
        tried = [
            (self._fit_around(design, center, ridge, min(ridge, 1.0), _INTERCEPT_RIDGE), ridge, center)
            for center in (self._center(design, direction) for direction in self._directions(hist))
            for ridge in (RIDGES if self.ridge is None else (self.ridge,))
        ]
        best, self.ridge_, center = max(tried, key=lambda one: one[0].evidence)
        self.prior_ = center[0, : self._members]
        return best.theta

    def _deviate(self, design: Design, center: Floats) -> tuple[Floats, float]:
        """Let groups deviate from their parents as far as the evidence supports it; (parameters, ridge)."""
        tried = [(Fit(center, -float(design.loss(center)[0].sum())), math.inf)]
        tried += [
            (self._fit_around(design, center, ridge, na_ridge, _GROUP_INTERCEPT_RIDGE), ridge)
            for ridge, na_ridge in itertools.product(GROUP_RIDGES, NA_RIDGES)
        ]
        best, ridge = max(tried, key=lambda one: one[0].evidence)
        return best.theta, ridge

    def _fit_around(self, design: Design, center: Floats, ridge: float, na: float, none: float) -> Fit:
        """Fit with one ridge for all weights; a pinned fit moves nothing but the score of "none of these"."""
        na = ridge if math.isinf(ridge) else na
        parts = [na] * (center.shape[1] - self._members - 2)
        ridges = [ridge] * self._members + parts + [na if self.na_bias else math.inf, none]
        return fit_around(design.loss, center, np.array(ridges), self._members)

    def _directions(self, hist: Histogram) -> list[Floats]:
        if self.prior is not None:
            return [np.asarray(self.prior, np.float64)]
        directions = [np.ones(hist.members)]
        if hist.active.sum() >= MIN_MEMBERS:
            directions.append(OneCoin(self.labels, per_group=False).fit(hist).rule_.weights[0])
            if (bloc := find_bloc(hist, self.labels)) is not None:
                directions.append(bloc.weights)
        return [direction for direction in directions if direction.any()]

    def _center(self, design: Design, direction: Floats) -> Floats:
        """Scale the direction to the gold, together with the two biases."""
        basis = np.zeros((design.features.shape[2], 3))
        basis[: self._members, 0] = direction / direction.max()
        basis[-2, 1] = basis[-1, 2] = 1.0

        def loss(z: Floats) -> tuple[Floats, Floats, Floats]:
            value, gradient, curvature = design.loss(z @ basis.T)
            return value, gradient @ basis, basis.T @ curvature @ basis

        pinned = self.ridge is not None and math.isinf(self.ridge)
        ridges = np.array([1.0, 1.0 if self.na_bias and not pinned else math.inf, _INTERCEPT_RIDGE])
        center = fit_around(loss, np.array([[_USUAL_SCALE, 0.0, 0.0]]), ridges, 1).theta @ basis.T
        center[:, self._members : -1] = 0.0
        return np.asarray(center)

    def _as_rule(self, theta: Floats) -> Rule:
        m = self._members
        part_bias = theta[:, m].copy() if theta.shape[1] > m + 2 else None
        # A member that never answered has nothing but its prior: it gets weight 0.
        return Rule(theta[:, :m] * self._answered, theta[:, -2].copy(), theta[:, -1].copy(), part_bias)


def _parents(above: npt.NDArray[np.int32], level: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Group in the level above of each group of a level."""
    parents = np.zeros(int(level.max(initial=0)) + 1, np.int32)
    parents[level] = above
    return parents
