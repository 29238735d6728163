# SPDX-License-Identifier: Apache-2.0
"""Conditional logit over the candidates of a cell, learned from gold labels; the default from 50 labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, decide
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, Codes, Keys
from quorum.learning.blocs import find_bloc
from quorum.learning.design import Design, Fit, fit_around
from quorum.learning.em import MIN_MEMBERS, OneCoin
from quorum.learning.newton import minimise
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
        rule_: One row per group of the last level, calibrated; the same for all if they do not deviate.
        default_: The row for groups without gold.
        levels_: Rows of every level, the first one with one row.
        ridge_: The ridge chosen for the global weights.
        group_ridges_: Per level below, the ridge chosen for its weights; inf: no deviation.
        prior_: (m,) the weights that the ridge shrinks towards.
        gold_: Number of labelled cells.
    """

    _members: int
    _answered: npt.NDArray[np.bool_]
    rule_: Rule
    default_: Rule
    levels_: list[Rule]
    ridge_: float
    group_ridges_: list[float]
    prior_: Floats
    gold_: float

    def __init__(
        self,
        ridge: float | None = None,
        prior: Floats | None = None,
        na_bias: bool = True,
        labels: float = 10.0,
        levels: Sequence[npt.NDArray[np.int32]] = (),
        gold_for_groups: float = GOLD_FOR_GROUPS,
    ) -> None:
        """Set up.

        Args:
            ridge: Strength of the shrinkage to the prior; None: by evidence; inf gives the prior itself.
            prior: (m,) direction of the prior; None: equal or one-coin weights, by evidence.
            na_bias: Learn a bias for "n/a"; without it "n/a" is a value like any other.
            labels: L for the one-coin prior.
            levels: From coarse to fine, per level (g,) the group there of each group of the histogram; every
                level must split the one before it.
            gold_for_groups: Fewest labelled cells with which groups may deviate.
        """
        self.ridge = ridge
        self.prior = prior
        self.na_bias = na_bias
        self.labels = labels
        self.levels = list(levels)
        self.gold_for_groups = gold_for_groups

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
        self._answered = (hist.codes != ABSTAIN).any(axis=0)
        gold = hist.labelled() if gold is None else gold.labelled()
        self.gold_ = gold.total
        if not self.gold_:
            raise NoGoldError("no labelled cell: label some, or learn without gold (em)")
        theta = self._fit_global(hist.pooled(), Design(gold.pooled(), members=self._members))
        self.default_ = self._as_rule(theta)
        self.levels_, self.group_ridges_ = [self.default_], []
        above = np.zeros(max(hist.n_groups, 1), np.int32)
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

    def predict_proba(self, codes: Codes, groups: Keys | None = None) -> Floats:
        """(n,) probability that each decision is right."""
        return self.predict(codes, groups).confidence

    def _fit_global(self, hist: Histogram, design: Design) -> Floats:
        best: Fit | None = None
        for direction in self._directions(hist):
            center = self._center(design, direction)
            for ridge in RIDGES if self.ridge is None else (self.ridge,):
                na_ridge = ridge if math.isinf(ridge) else min(ridge, 1.0)
                fit = fit_around(design, center, self._ridges(design, ridge, na_ridge, _INTERCEPT_RIDGE))
                if best is None or fit.evidence > best.evidence:
                    best, self.ridge_, self.prior_ = fit, ridge, center[0, : self._members]
        assert best is not None
        return best.theta

    def _deviate(self, design: Design, center: Floats) -> tuple[Floats, float]:
        """Let groups deviate from their parents as far as the evidence supports it; (parameters, ridge)."""
        best, chosen = Fit(center, -float(design.loss(center)[0].sum())), math.inf
        for ridge in GROUP_RIDGES:
            for na_ridge in NA_RIDGES:
                fit = fit_around(
                    design, center, self._ridges(design, ridge, na_ridge, _GROUP_INTERCEPT_RIDGE)
                )
                if fit.evidence > best.evidence:
                    best, chosen = fit, ridge
        return best.theta, chosen

    def _directions(self, hist: Histogram) -> list[Floats]:
        if self.prior is not None:
            return [np.asarray(self.prior, np.float64)]
        directions = [np.ones(hist.members)]
        active = int((hist.codes != ABSTAIN).any(axis=0).sum())
        if active >= MIN_MEMBERS:
            directions.append(OneCoin(self.labels, per_group=False).fit(hist).rule_.weights[0])
            if (bloc := find_bloc(hist, self.labels)) is not None:
                directions.append(bloc.weights)
        return [direction for direction in directions if direction.any()]

    def _center(self, design: Design, direction: Floats) -> Floats:
        """Scale the direction to the gold, together with the two biases."""
        basis = np.zeros((design.features.shape[2], 3))
        basis[: self._members, 0] = direction / direction.max()
        basis[-2, 1] = basis[-1, 2] = 1.0
        home = np.array([[_USUAL_SCALE, 0.0, 0.0]])
        pull = np.array([1.0, 1.0, _INTERCEPT_RIDGE])

        def objective(z: Floats) -> tuple[Floats, Floats, Floats]:
            value, gradient, curvature = design.loss(z @ basis.T)
            away = z - home
            return (
                value + 0.5 * (away**2) @ pull,
                gradient @ basis + pull * away,
                basis.T @ curvature @ basis + np.diag(pull),
            )

        without_na = np.array([False, not self.na_bias or self._pinned(), False])
        z = minimise(objective, home, np.array([0.0, -np.inf, -np.inf]), without_na)
        center = z @ basis.T
        center[:, self._members : -1] = 0.0
        return np.asarray(center)

    def _pinned(self) -> bool:
        return self.ridge is not None and math.isinf(self.ridge)

    def _ridges(self, design: Design, weights: float, na_bias: float, none_bias: float) -> Floats:
        parts = [na_bias] * (design.features.shape[2] - self._members - 2)
        na = na_bias if self.na_bias else math.inf
        return np.array([weights] * self._members + parts + [na, none_bias])

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
