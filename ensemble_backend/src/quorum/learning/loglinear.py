# SPDX-License-Identifier: Apache-2.0
"""Conditional logit over the candidates of a cell, learned from gold labels; the default from 50 labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, decide
from quorum.decision.evidence import Coefficients
from quorum.decision.histogram import UNLABELLED, Histogram, histogram
from quorum.decision.patterns import ABSTAIN, Codes, Keys
from quorum.decision.scores import LOG_ODDS
from quorum.learning.attributes import KINDS, ByAttribute, fit_attributes
from quorum.learning.blocs import find_bloc
from quorum.learning.design import Design, Fit, fit_around, within
from quorum.learning.em import MIN_MEMBERS, OneCoin
from quorum.learning.hierarchy import Prior
from quorum.learning.scored import ScoredCoin, usual_log_odds
from quorum.learning.text import GOLD_FOR_TEXT, Start, TextFit, fit_text
from quorum.votes.text_rows import TextRows
from quorum_contract.errors import QuorumError

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
GROUP_RIDGES = (3.0, 10.0, 30.0, 100.0)
NA_RIDGES = (1.0, 10.0)
GOLD_FOR_GROUPS = 1000
LABELS_EACH = 2.0
"""With fewer labels per attribute on average, all have common weights: labels say nothing about one."""
_WORTH = 0.002
"""Own weights of attributes that gain less than this share of all cells on common ones give way to texts."""
_INTERCEPT_RIDGE = 0.05
_GROUP_INTERCEPT_RIDGE = 3.0
_USUAL_SCALE = 1.5
_USUAL_SLOPE = 0.5
_LEAST_SCALE = 0.1
"""Equal weights must not vanish: they would no longer decide."""
_USUAL_NA_BIAS, _USUAL_PART_BIAS = -0.9, 0.5
"""What the biases usually are, see ADR 65: few labels pull them to 0 too hard otherwise."""
_LEAD = 3.0
"""Log evidence by which a fit must lead with scores of which agreement says nothing: useless ones, too, win
by a little now and then."""
_SLOPE_RIDGES = 4.0
"""Ridge of slopes in those of weights: log odds of scores spread about twice as far as being named or not."""

_Prior = tuple[Floats, Floats | None]
"""(m,) direction of the weights, and of the slopes of scores."""


class NoGoldError(QuorumError, ValueError):
    """There is no labelled cell to learn from."""

    code = "NO_GOLD"


@dataclass(eq=False, repr=False)
class LogLinear:
    """Weights, n/a bias and calibrated confidence in one fit of ``members + 2`` parameters, more with scores.

    Score of a candidate: sum of the weights ``v_j >= 0`` of the members naming it, plus ``na_bias`` if it
    is "n/a", plus ``part_bias`` if it is part of others; "none of these" scores ``none_bias``. P(candidate is
    right) is the softmax of the scores. The penalised likelihood is maximised by damped Newton with line
    search. The ridge shrinks the weights towards a prior scaled to the gold: equal weights, those of
    :class:`~quorum.learning.em.OneCoin`, or those of :func:`~quorum.learning.blocs.find_bloc`. Laplace
    evidence chooses prior and ridge. Unlike independent log-odds, the fit discounts members that repeat each
    other. Attributes get equal, common or own weights (``per_attribute``). From 1000 gold labels on, groups
    may deviate, level by level, each shrunk towards the level above; the evidence chooses how strongly, and
    whether at all.

    Votes with scores weigh ``v_j + c_j (s - u_j)``, with ``s`` the log odds of the score's level, ``u_j`` its
    mean and a slope ``c_j >= 0`` with four times the ridge, pulled to equal slopes or those of
    :class:`~quorum.learning.scored.ScoredCoin`. Scores count if the evidence is for them, by 3 where
    agreement finds them worthless. A weight below 0, which is rare, is used in the fit and is 0 when it
    decides.

    From 50 gold labels on, a value is also scored by the product's text (:mod:`quorum.decision.evidence`):
    one coefficient per standardised feature for all groups, shrunk towards 0. Laplace evidence chooses the
    ridge, and whether text counts at all. The coefficients are fitted together with common weights, or equal
    ones where attributes have these; own weights of attributes then to what the text leaves open. Categories
    do not deviate then, since text tells what they would learn. The fit leaves out the bounds that evidence
    has when it decides.

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
        per_attribute: The groups of the first level are attributes whose weights are chosen by
            :func:`~quorum.learning.attributes.fit_attributes`, however few labels there are; not where
            scores count.
        rule_: One row per group of the last level, calibrated; the same for all if they do not deviate.
        default_: The row for groups without gold.
        levels_: Rows of every level, the first one with one row.
        ridge_: The ridge chosen for the global weights.
        group_ridges_: Per level below, the ridge chosen for its weights; inf: no deviation.
        attributes_: What was chosen for each attribute; None: not by attribute.
        prior_: (m,) the weights that the ridge shrinks towards.
        gold_: Number of labelled cells.
        text_: What the text says about values; {}: nothing.
        text_ridge_: The ridge of its coefficients; inf: text does not count.
    """

    ridge: float | None = None
    prior: Floats | None = None
    na_bias: bool = True
    labels: float = 10.0
    levels: Sequence[npt.NDArray[np.int32]] = ()
    gold_for_groups: float = GOLD_FOR_GROUPS
    per_attribute: bool = False
    rule_: Rule = field(init=False)
    default_: Rule = field(init=False)
    levels_: list[Rule] = field(init=False)
    ridge_: float = field(init=False)
    group_ridges_: list[float] = field(init=False)
    attributes_: ByAttribute | None = field(init=False)
    prior_: Floats = field(init=False)
    gold_: float = field(init=False)
    text_: Coefficients = field(init=False)
    text_ridge_: float = field(init=False)
    _members: int = field(init=False)
    _answered: npt.NDArray[np.bool_] = field(init=False)
    _usual: Floats | None = field(init=False)
    _prior: Prior = field(init=False)

    def fit(
        self,
        hist: Histogram,
        gold: Histogram | None = None,
        scored: Histogram | None = None,
        text: TextRows | None = None,
    ) -> LogLinear:
        """Learn from the labelled rows; the unlabelled ones only inform the prior.

        Args:
            hist: All cells.
            gold: The labelled cells again, with one more column: the code of the value that is part of
                others, see :func:`quorum.decision.parts.find_part`. None: parts get no bias.
            scored: All cells again, with the levels of scores that ``gold`` then has too. None: scores do
                not count.
            text: The cells of ``gold`` one by one, with their features. None: text does not count.

        Raises:
            NoGoldError: No labelled cell.
        """
        self._members = hist.members
        self._answered = hist.active
        gold = hist.labelled() if gold is None else gold.labelled()
        self.gold_ = gold.total
        if not self.gold_:
            raise NoGoldError("no labelled cell: label some, or learn without gold (em)")
        best, center = self._fit_global(hist.pooled(), gold.pooled(), scored)
        self.default_, self.attributes_ = self._as_rule(best.theta), None
        self.text_, self.text_ridge_ = {}, math.inf
        chosen = self._choose(hist, gold, best.theta, center) if self._may_differ(hist) else None
        theta, fit = best.theta, self._fit_text(best, center, text, chosen)
        if fit is not None and text is not None:
            theta, self.text_, self.text_ridge_ = fit.theta, fit.evidence, fit.ridge
            self.default_ = self._as_rule(theta)
            chosen = self._with_text(chosen, fit, text)
        self._fit_levels(gold, theta, chosen)
        self.rule_ = self.levels_[-1]
        return self

    def _fit_levels(self, gold: Histogram, theta: Floats, chosen: ByAttribute | None) -> None:
        """Let groups deviate, level by level; the first level is that of the attributes chosen, if any."""
        self.attributes_ = chosen
        self.levels_, self.group_ridges_ = [self.default_], []
        one = [np.zeros_like(level) for level in self.levels[:1]]
        for depth, (above, level) in enumerate(itertools.pairwise([*one, *self.levels])):
            theta, ridge = theta[_parents(above, level)], math.inf
            if depth == 0 and chosen is not None:
                theta, ridge = chosen.theta, chosen.ridge
            elif self.gold_ >= self.gold_for_groups and not self.text_:
                design = Design(gold.regrouped(level), len(theta), self._members, self._usual)
                theta, ridge = self._deviate(design, theta)
            self.levels_.append(self._as_rule(theta))
            self.group_ridges_.append(ridge)

    def predict(
        self,
        codes: Codes,
        groups: Keys | None = None,
        parts: Codes | None = None,
        levels: Codes | None = None,
    ) -> Decision:
        """Decide (n, m) codes; (n,) groups of the last level, None: without groups; (n,) codes of parts.

        ``levels`` are the (n, m) levels of the votes' scores.
        """
        return decide(codes, self.default_ if groups is None else self.rule_, groups, parts, levels)

    def _fit_global(self, hist: Histogram, gold: Histogram, scored: Histogram | None) -> tuple[Fit, Floats]:
        """The best fit without text, and its center."""
        priors: list[_Prior] = [(direction, None) for direction in self._directions(hist)]
        plain = Design(gold.without_levels(), members=self._members)
        tried: list[tuple[Fit, float, Floats, Floats | None]]
        tried = [(*fit, None) for fit in self._fits(plain, priors)]
        lead = 0.0
        if scored is not None:
            usual, agreed = usual_log_odds(scored), self._agreed(scored)
            design = Design(gold, members=self._members, usual=usual)
            priors = [(weights, self._answered * 1.0) for weights, _ in priors] + agreed
            tried += [(*fit, usual) for fit in self._fits(design, priors)]
            lead = 0.0 if agreed else _LEAD
        best, self.ridge_, center, self._usual = max(
            tried, key=lambda one: one[0].evidence - (0.0 if one[3] is None else lead)
        )
        self.prior_ = center[0, : self._members]
        return best, center

    def _fit_text(
        self, best: Fit, center: Floats, rows: TextRows | None, chosen: ByAttribute | None
    ) -> TextFit | None:
        """Fit coefficients of the text with common weights, or equal ones where attributes have these."""
        if rows is None or self.gold_ < GOLD_FOR_TEXT or math.isinf(self.ridge_):
            return None
        m, d, scored = self._members, center.shape[1], self._usual is not None
        if chosen is None or chosen.base:
            ridges = self._ridges(center, self.ridge_, min(self.ridge_, 1.0), _INTERCEPT_RIDGE, scored)
            start = Start(center, ridges, np.eye(d), m * (2 if scored else 1))
            return fit_text(rows.pooled(), m, self._usual, start, best.evidence)
        usual, ridges = np.array([[_USUAL_SCALE, 0.0]]), np.array([1.0, _INTERCEPT_RIDGE])
        return fit_text(rows.pooled(), m, None, Start(usual, ridges, self._equal_basis(d), 1, _LEAST_SCALE))

    def _with_text(self, chosen: ByAttribute | None, fit: TextFit, rows: TextRows) -> ByAttribute | None:
        """Fit weights of attributes' own to what the text leaves open; the others have those of the fit.

        None: all have these, as weights of their own are worth nearly nothing.
        """
        if chosen is None or (chosen.base and chosen.worth < _WORTH):
            return None
        rows = rows.regrouped(self.levels[0])
        own = fit.around(rows, self._members, len(chosen.theta), self._prior, chosen.ridge)
        is_own = (chosen.kinds == KINDS.index("own"))[:, None]
        return chosen._replace(theta=np.where(is_own, own, fit.theta))

    def _may_differ(self, hist: Histogram) -> bool:
        """Whether weights are chosen by attribute: votes alone count, and there are labels enough."""
        if not self.per_attribute or not self.levels or self._usual is not None or math.isinf(self.ridge_):
            return False
        return self.gold_ >= LABELS_EACH * len(np.unique(self.levels[0][hist.groups]))

    def _choose(self, hist: Histogram, gold: Histogram, common: Floats, center: Floats) -> ByAttribute:
        """Equal, common or own weights for each attribute; the default is what most of them have."""
        level, na = self.levels[0], min(self.ridge_, 1.0)
        self._prior = Prior(center[0], self._ridges(center, self.ridge_, na, _INTERCEPT_RIDGE, False))
        cells, gold = hist.regrouped(level), gold.regrouped(level).without_levels()
        every = self._equal(
            Design(gold.pooled(), 1, self._members), np.array([_USUAL_SCALE, 0.0]), 1.0, _INTERCEPT_RIDGE
        )
        groups = int(level.max(initial=0)) + 1
        design = Design(gold, groups, self._members)
        equal = self._equal(design, every[0, [0, -1]], _GROUP_INTERCEPT_RIDGE, _GROUP_INTERCEPT_RIDGE)
        chosen = fit_attributes(design, _joined(cells, gold), common[0], self._prior, equal)
        if not chosen.base:
            self.default_ = self._as_rule(every)
        return chosen

    def _equal(self, design: Design, start: Floats, scale: float, none: float) -> Floats:
        """(g, d) equal weights without biases, scaled to the gold; ridges to the (2,) start are given."""
        basis = self._equal_basis(design.features.shape[2])
        center = np.repeat(start[None], design.n_groups, axis=0)
        z = fit_around(within(design.loss, basis), center, np.array([scale, none]), 1).theta
        z[:, 0] = np.maximum(z[:, 0], _LEAST_SCALE)
        return np.asarray(z @ basis.T)

    def _equal_basis(self, size: int) -> Floats:
        """(d, 2) scale of equal weights, and the score of "none of these"."""
        basis = np.zeros((size, 2))
        basis[: self._members, 0] = basis[-1, 1] = 1.0
        return basis

    def _agreed(self, scored: Histogram) -> list[_Prior]:
        """The prior that agreement alone gives, if it finds scores that say anything."""
        if self.prior is not None or scored.active.sum() < MIN_MEMBERS:
            return []
        coin = ScoredCoin(self.labels).fit(scored.regrouped(self.levels[0]) if self.levels else scored)
        weights = np.maximum(coin.usual_weights(self.labels), 0.0)
        return [(weights, coin.slope_)] if coin.informative and weights.any() else []

    def _fits(self, design: Design, priors: Sequence[_Prior]) -> Iterator[tuple[Fit, float, Floats]]:
        """A fit, its ridge and its center, for each ridge around each prior of weights and slopes."""
        for weights, slopes in priors:
            center = self._center(design, weights, slopes)
            for ridge in RIDGES if self.ridge is None else (self.ridge,):
                na = min(ridge, 1.0)
                yield (
                    self._fit_around(design, center, ridge, na, _INTERCEPT_RIDGE, slopes is not None),
                    ridge,
                    center,
                )

    def _deviate(self, design: Design, center: Floats) -> tuple[Floats, float]:
        """Let groups deviate from their parents as far as the evidence supports it; (parameters, ridge)."""
        scored = self._usual is not None
        tried = [(Fit(center, -float(design.loss(center)[0].sum())), math.inf)]
        tried += [
            (self._fit_around(design, center, ridge, na_ridge, _GROUP_INTERCEPT_RIDGE, scored), ridge)
            for ridge, na_ridge in itertools.product(GROUP_RIDGES, NA_RIDGES)
        ]
        best, ridge = max(tried, key=lambda one: one[0].evidence)
        return best.theta, ridge

    def _fit_around(
        self, design: Design, center: Floats, ridge: float, na: float, none: float, scored: bool
    ) -> Fit:
        """Fit with one ridge for all weights; a pinned fit moves nothing but the score of "none of these"."""
        bounded = self._members * (2 if scored else 1)
        return fit_around(design.loss, center, self._ridges(center, ridge, na, none, scored), bounded)

    def _ridges(self, center: Floats, ridge: float, na: float, none: float, scored: bool) -> Floats:
        """(d,) ridges of weights, slopes, parts, "n/a" and the score of "none of these"."""
        na, m = ridge if math.isinf(ridge) else na, self._members
        slopes = [_SLOPE_RIDGES * ridge] * (m if scored else 0)
        parts = [na] * (center.shape[1] - m - len(slopes) - 2)
        return np.array([ridge] * m + slopes + parts + [na if self.na_bias else math.inf, none])

    def _directions(self, hist: Histogram) -> list[Floats]:
        if self.prior is not None:
            return [np.asarray(self.prior, np.float64)]
        directions = [np.ones(hist.members)]
        if hist.active.sum() >= MIN_MEMBERS:
            directions.append(OneCoin(self.labels, per_group=False).fit(hist).rule_.weights[0])
            if (bloc := find_bloc(hist, self.labels)) is not None:
                directions.append(bloc.weights)
        return [direction for direction in directions if direction.any()]

    def _center(self, design: Design, weights: Floats, slopes: Floats | None) -> Floats:
        """Scale weights, and slopes, to the gold, together with the two biases."""
        m, bounded = self._members, 1 if slopes is None else 2
        basis = np.zeros((design.features.shape[2], bounded + 2))
        basis[:m, 0] = weights / weights.max()
        if slopes is not None:
            basis[m : 2 * m, 1] = slopes / slopes.max()
        basis[-2, -2] = basis[-1, -1] = 1.0

        pinned = self.ridge is not None and math.isinf(self.ridge)
        na = 1.0 if self.na_bias and not pinned else math.inf
        ridges = np.array([1.0] * bounded + [na, _INTERCEPT_RIDGE])
        start = np.array([[_USUAL_SCALE, *([_USUAL_SLOPE] * (bounded - 1)), 0.0, 0.0]])
        center = fit_around(within(design.loss, basis), start, ridges, bounded).theta @ basis.T
        center[:, m * bounded : -1] = 0.0
        if not pinned:
            center[:, m * bounded : -2] = _USUAL_PART_BIAS
            center[:, -2] = _USUAL_NA_BIAS if self.na_bias else 0.0
        return np.asarray(center)

    def _as_rule(self, theta: Floats) -> Rule:
        m, scores = self._members, None
        # A member that never answered has nothing but its prior: it gets weight 0.
        weights = theta[:, :m] * self._answered
        if self._usual is not None:
            slopes, theta = theta[:, m : 2 * m] * self._answered, np.delete(theta, np.s_[m : 2 * m], axis=1)
            scores = slopes[:, :, None] * (np.array(LOG_ODDS) - self._usual[:, None])
        part_bias = theta[:, m].copy() if theta.shape[1] > m + 2 else None
        return Rule(weights, theta[:, -2].copy(), theta[:, -1].copy(), part_bias, scores)


def _parents(above: npt.NDArray[np.int32], level: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Group in the level above of each group of a level."""
    parents = np.zeros(int(level.max(initial=0)) + 1, np.int32)
    parents[level] = above
    return parents


def _joined(cells: Histogram, gold: Histogram) -> Histogram:
    """The cells without a label, and the labelled ones with their columns; all without gold."""
    rest = cells.take(cells.right == UNLABELLED)
    columns = gold.members - cells.members
    blank = np.full((len(rest.codes), columns), ABSTAIN, np.int8)
    return histogram(
        np.concatenate([np.column_stack([rest.codes, blank]), gold.codes]),
        np.concatenate([rest.groups, gold.groups]),
        None,
        np.concatenate([rest.counts, gold.counts]),
    )
