# SPDX-License-Identifier: Apache-2.0
"""Conditional logit over the candidates of a cell, learned from gold labels: the default from 50 of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quorum.voting.decide import Decision, Floats, Groups, Rule, decide, leaders
from quorum.voting.em import MIN_MEMBERS, OneCoin
from quorum.voting.histogram import Histogram, right_members
from quorum.voting.newton import Objective, minimise
from quorum.voting.patterns import ABSTAIN, NA, Codes

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
_INTERCEPT_RIDGE = 0.05
_CHUNK = 4096


class NoGoldError(ValueError):
    """There is no labelled cell to learn from."""


class Design:
    """The candidates of labelled cells as features: who named it, is it "n/a", is it "none of these".

    Args:
        hist: Labelled rows; others are left out.
    """

    def __init__(self, hist: Histogram) -> None:
        hist = hist.labelled()
        codes, m = hist.codes, hist.members
        lead = leaders(codes)
        features = np.zeros((len(codes), m + 1, m + 2), np.int8)
        features[:, :m, :m] = (codes[:, :, None] == codes[:, None, :]) & lead[:, :, None]
        features[:, :m, m] = lead & (codes == NA)
        features[:, m, m + 1] = 1
        self.features = features
        self.possible = np.concatenate([lead, np.ones((len(codes), 1), np.bool_)], axis=1)
        right = right_members(hist) & lead
        self.right = np.concatenate([right, ~right.any(axis=1, keepdims=True)], axis=1)
        self.counts, self.groups = hist.counts, hist.groups

    def subset(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Design:
        """The design of some rows."""
        part = Design.__new__(Design)
        for name in ("features", "possible", "right", "counts", "groups"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def loss(self, theta: Floats) -> tuple[float, Floats, Floats]:
        """Negative log-likelihood of the gold, its gradient, and its Gauss-Newton curvature."""
        d = len(theta)
        value, gradient, curvature = 0.0, np.zeros(d), np.zeros((d, d))
        for start in range(0, len(self.counts), _CHUNK):
            part = slice(start, start + _CHUNK)
            x = self.features[part].astype(np.float64)
            scores = np.where(self.possible[part], x @ theta, -np.inf)
            top = scores.max(axis=1, keepdims=True)
            terms = np.exp(scores - top)
            hits = np.where(self.right[part], terms, 0.0)
            total, hit = terms.sum(axis=1), hits.sum(axis=1)
            counts = self.counts[part]
            p, q = terms / total[:, None], hits / np.maximum(hit, 1e-300)[:, None]
            value -= float(counts @ (np.log(np.maximum(hit, 1e-300)) - np.log(total)))
            gradient += np.einsum("r,rc,rcd->d", counts, p - q, x, optimize=True)
            mean = np.einsum("rc,rcd->rd", p, x)
            weighted = (counts[:, None] * p)[:, :, None] * x
            curvature += np.tensordot(weighted, x, axes=([0, 1], [0, 1])) - (counts[:, None] * mean).T @ mean
        return value, gradient, curvature


@dataclass(frozen=True, slots=True)
class Fit:
    """One penalised fit: parameters (weights, n/a bias, none bias), log evidence, ridge used."""

    theta: Floats
    evidence: float
    ridge: float


class LogLinear:
    """Weights, n/a bias and calibrated confidence in one fit of ``members + 2`` numbers.

    Score of a candidate: sum of the weights ``v_j >= 0`` of the members naming it, plus ``na_bias`` if it is
    "n/a"; "none of these" scores ``none_bias``. P(candidate is right) is the softmax of the scores. The
    penalised likelihood is maximised by damped Newton with line search. The ridge pulls the weights towards
    a prior that is either equal weights or those of :class:`quorum.voting.em.OneCoin`, scaled to the gold;
    prior and ridge are chosen by Laplace evidence. Unlike independent log-odds this sees that two members
    repeat each other.

    Source: McFadden 1974, Conditional Logit Analysis of Qualitative Choice Behavior; evidence: MacKay 1992,
    doi:10.1162/neco.1992.4.3.415.

    Attributes:
        rule_: One row, calibrated.
        ridge_: The ridge chosen.
        prior_: (m,) the weights that the ridge pulls towards.
        gold_: Number of labelled cells.
    """

    rule_: Rule
    ridge_: float
    prior_: Floats
    gold_: float

    def __init__(
        self,
        ridge: float | None = None,
        prior: Floats | None = None,
        na_bias: bool = True,
        labels: float = 10.0,
    ) -> None:
        """Set up.

        Args:
            ridge: Strength of the pull towards the prior; None: by evidence; inf gives the prior itself.
            prior: (m,) direction of the prior; None: equal or one-coin weights, by evidence.
            na_bias: Learn a bias for "n/a"; without it "n/a" is a value like any other.
            labels: L for the one-coin prior.
        """
        self.ridge = ridge
        self.prior = prior
        self.na_bias = na_bias
        self.labels = labels

    def fit(self, hist: Histogram) -> LogLinear:
        """Learn from the labelled rows; the unlabelled ones only serve the prior.

        Raises:
            NoGoldError: No labelled cell.
        """
        hist = hist.pooled()
        gold = hist.labelled()
        self.gold_ = gold.total
        if not self.gold_:
            raise NoGoldError("no labelled cell: label some, or learn without gold (em)")
        design = Design(gold)
        best: Fit | None = None
        for direction in self._directions(hist):
            center = self._center(design, direction)
            for ridge in RIDGES if self.ridge is None else (self.ridge,):
                fit = fit_around(design, center, self._ridges(ridge, len(center)))
                if best is None or fit.evidence > best.evidence:
                    best, self.ridge_, self.prior_ = fit, ridge, center[:-2]
        assert best is not None
        theta = best.theta
        self.rule_ = Rule(theta[None, :-2], theta[-2:-1].copy(), theta[-1:].copy())
        return self

    def predict(self, codes: Codes, groups: Groups | None = None) -> Decision:
        """Decide (n, m) codes; groups do not matter."""
        return decide(codes, self.rule_)

    def predict_proba(self, codes: Codes, groups: Groups | None = None) -> Floats:
        """(n,) probability that each decision is right."""
        return self.predict(codes).confidence

    def _directions(self, hist: Histogram) -> list[Floats]:
        if self.prior is not None:
            return [np.asarray(self.prior, np.float64)]
        directions = [np.ones(hist.members)]
        active = int((hist.codes != ABSTAIN).any(axis=0).sum())
        if active >= MIN_MEMBERS:
            directions.append(OneCoin(self.labels, per_group=False).fit(hist).rule_.weights[0])
        return [direction for direction in directions if direction.any()]

    def _center(self, design: Design, direction: Floats) -> Floats:
        """Scale the direction to the gold, together with the two biases."""
        unit = direction / direction.max()
        d = len(unit) + 2
        basis = np.zeros((d, 3))
        basis[:-2, 0] = unit
        basis[-2, 1] = 1.0
        basis[-1, 2] = 1.0
        # Weak normal priors: a scale near 1.5 logits, biases near 0.
        home = np.array([1.5, 0.0, 0.0])
        pull = np.array([1.0, 1.0 if self.na_bias and not self._pinned() else math.inf, _INTERCEPT_RIDGE])

        def objective(z: Floats) -> tuple[float, Floats, Floats]:
            value, gradient, curvature = design.loss(basis @ z)
            finite = np.where(np.isinf(pull), 0.0, pull)
            penalty = 0.5 * float(finite @ (z - home) ** 2)
            return (
                value + penalty,
                basis.T @ gradient + finite * (z - home),
                basis.T @ curvature @ basis + np.diag(finite),
            )

        z = _bounded(objective, home, np.array([0.0, -np.inf, -np.inf]), np.isinf(pull))
        center = basis @ z
        center[-2] = 0.0
        return center

    def _pinned(self) -> bool:
        return self.ridge is not None and math.isinf(self.ridge)

    def _ridges(self, ridge: float, d: int) -> Floats:
        ridges = np.full(d, ridge)
        ridges[-2] = min(ridge, 1.0) if self.na_bias and not math.isinf(ridge) else math.inf
        ridges[-1] = _INTERCEPT_RIDGE
        return ridges


def fit_around(design: Design, center: Floats, ridges: Floats) -> Fit:
    """Penalised fit: ``loss + 1/2 sum_i ridges_i (theta_i - center_i)^2``, weights >= 0.

    Args:
        design: Labelled cells.
        center: (m + 2,) what the ridge pulls towards.
        ridges: (m + 2,) strength per parameter; inf pins it.

    Returns:
        Parameters and the Laplace approximation of the log evidence.
    """
    fixed = np.isinf(ridges)
    pull = np.where(fixed, 0.0, ridges)

    def objective(theta: Floats) -> tuple[float, Floats, Floats]:
        value, gradient, curvature = design.loss(theta)
        away = theta - center
        return value + 0.5 * float(pull @ away**2), gradient + pull * away, curvature + np.diag(pull)

    lower = np.zeros(len(center))
    lower[-2:] = -np.inf
    theta = _bounded(objective, center, lower, fixed)
    value, _, curvature = objective(theta)
    free = ~fixed
    _, log_det = np.linalg.slogdet(curvature[np.ix_(free, free)])
    evidence = -value + 0.5 * float(np.log(pull[free]).sum()) - 0.5 * float(log_det)
    return Fit(theta, evidence, float(ridges[0]))


def _bounded(
    objective: Objective, start: Floats, lower: Floats, fixed: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    """Minimise over the parameters that are not fixed at their start."""
    free = ~fixed

    def reduced(part: Floats) -> tuple[float, Floats, Floats]:
        full = start.copy()
        full[free] = part
        value, gradient, curvature = objective(full)
        return value, gradient[free], curvature[np.ix_(free, free)]

    result = start.copy()
    if free.any():
        result[free] = minimise(reduced, start[free], lower[free])
    return result
