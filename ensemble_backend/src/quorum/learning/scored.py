# SPDX-License-Identifier: Apache-2.0
"""One-coin members whose accuracy rises with the score of a vote, learned from agreement alone by EM."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, Rule
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN
from quorum.decision.scores import LEVELS, LOG_ODDS, NO_SCORE, log_odds_of
from quorum.learning.em import DEFAULT_LABELS, MIN_MEMBERS, CellRows, TooFewMembersError
from quorum.learning.newton import minimise

CERTAIN_Z = 3.0
LEAST_SLOPE = 0.2
"""A member's scores count if its slope is this high, and :data:`CERTAIN_Z` standard errors above 0."""
LEAST_MEAN = 0.3
"""Scores count at all if the slopes of the members that give some come to this mean."""
MAX_ROWS = 1 << 18
"""With more rows than this, as many cells drawn by their counts stand for all."""
MAX_STRATA = 32
"""With more groups than this, those of alike scores share an intercept while the first slopes are learned."""
_INTERCEPT, _SLOPE, _PLAIN = range(3)
_CENTER = np.array([0.0, 1.0, 0.0])
_PULL = np.array([1.0, 1.0, 0.1])
_GROUP_PULL = 0.1
_PSEUDO = 20.0
_START = 1.4

Numbers = npt.NDArray[np.float64]


@dataclass(eq=False, repr=False)
class ScoredCoin:
    """Accuracy of each member as a function of its own score, without gold.

    Model: as :class:`quorum.learning.em.OneCoin`, but the log odds of a vote being right are ``a_j + c_j s``,
    with ``s`` the log odds of the vote's score level: ``c_j`` = 1 and ``a_j`` = 0 for a member that knows how
    sure it is, ``c_j`` = 0 for one whose scores say nothing. A ridge of 1 pulls towards the former.

    First the slopes are learned with an intercept per member and attribute, so that attributes that are
    both easy and highly scored do not make a slope. The scores of a member whose slope is not clearly above 0
    are ignored from then on, and those of all members where the slopes are low: little is lost. Then the
    other slopes are learned again with one intercept per member: intercepts per attribute would follow errors
    that members share.

    Source: two-parameter calibration, Platt 1999; EM as Dawid and Skene 1979, doi:10.2307/2346806.

    Attributes:
        labels: L, the number of possible values, >= 2: one number, or (g,) per group.
        tolerance: Stop when no log odds move by more than this in a round.
        max_rounds: Rounds of each EM loop at most.
        slope_: (m,) ``c_j``; 0 where the scores of a member are ignored.
        intercept_: (m,) ``a_j``.
        plain_: (m,) log odds of a vote without a score.
        certainty_: (m,) slope within attributes, in standard errors as if the truth were known: optimistic.
        rule_: One row per group; confidence is agreement.
    """

    labels: Floats | float = DEFAULT_LABELS
    tolerance: float = 1e-4
    max_rounds: int = 150
    slope_: Numbers = field(init=False)
    intercept_: Numbers = field(init=False)
    plain_: Numbers = field(init=False)
    certainty_: Numbers = field(init=False)
    rule_: Rule = field(init=False)
    _active: npt.NDArray[np.bool_] = field(init=False)
    _usual: Numbers = field(init=False)

    def fit(self, hist: Histogram) -> ScoredCoin:
        """Learn from the votes and their levels.

        Raises:
            TooFewMembersError: As OneCoin does.
            ValueError: The histogram has no levels.
        """
        groups, hist = hist.n_groups, _drawn(hist.unlabelled().na_as_value())
        if hist.levels is None:
            raise ValueError("the votes have no scores; use OneCoin")
        if hist.active.sum() < MIN_MEMBERS:
            raise TooFewMembersError(f"{int(hist.active.sum())} members answered, {MIN_MEMBERS} are needed")
        labels = np.broadcast_to(np.asarray(self.labels, np.float64), (groups,))
        em = _Em(hist, hist.levels, labels, self.tolerance, self.max_rounds)
        slopes, self.certainty_ = em.within_groups(_strata(em.given))
        trusted = (self.certainty_ > CERTAIN_Z) & (slopes > LEAST_SLOPE)
        scoring = (hist.levels != NO_SCORE).any(axis=0)
        if np.where(trusted, slopes, 0.0).sum() < LEAST_MEAN * scoring.sum():
            trusted &= False
        ignored = np.where(trusted, hist.levels, np.int8(NO_SCORE))
        em = _Em(hist, ignored, labels, self.tolerance, self.max_rounds)
        theta, self.plain_ = em.pooled()
        self.intercept_ = np.where(trusted, theta[:, _INTERCEPT], self.plain_)
        self.slope_ = np.where(trusted, theta[:, _SLOPE], 0.0)
        self._active = hist.active
        self._usual = usual_log_odds(hist)
        self.rule_ = self.rule(labels)
        return self

    @property
    def informative(self) -> bool:
        """Whether the scores of any member count."""
        return bool(self.slope_.any())

    def usual_weights(self, labels: float) -> Numbers:
        """(m,) weight of a vote with a member's usual score, where L values are possible."""
        scored = self.intercept_ + self.slope_ * self._usual
        return np.asarray(math.log(labels - 1.0) + np.where(self.slope_ > 0.0, scored, self.plain_))

    def rule(self, labels: Floats, plain: Floats | None = None) -> Rule:
        """Weights and offsets per level.

        Args:
            labels: (g,) L per group.
            plain: (g, m) weights of votes without a score, and of members whose scores are ignored; None:
                by :attr:`plain_`.
        """
        chance = np.log(labels - 1.0)[:, None]
        if plain is None:
            plain = np.where(self._active, np.maximum(chance + self.plain_, 0.0), 0.0)
        scored = self.intercept_[:, None] + self.slope_[:, None] * np.array(LOG_ODDS)
        offsets = chance[:, :, None] + scored - plain[:, :, None]
        offsets = np.where((self.slope_ > 0.0)[:, None], offsets, 0.0)
        return Rule(plain, np.zeros(len(labels)), scores=offsets)


def usual_log_odds(hist: Histogram) -> Numbers:
    """(m,) mean log odds of the levels of each member's scores; 0 for a member without scores."""
    levels = hist.all_levels()
    return np.asarray(
        hist.counts @ log_odds_of(levels) / np.maximum(hist.counts @ (levels != NO_SCORE), 1e-12)
    )


def _drawn(hist: Histogram) -> Histogram:
    """The histogram, or one of :data:`MAX_ROWS` cells drawn from it."""
    if len(hist.counts) <= MAX_ROWS:
        return hist
    rows = np.random.default_rng(0).choice(len(hist.counts), MAX_ROWS, p=hist.counts / hist.total)
    counts = np.bincount(rows, minlength=len(hist.counts)).astype(np.float64)
    return replace(hist, counts=counts).take(counts > 0.0)


class _Em:
    """The EM loop over the rows of a histogram, with its M step on counts per group and level."""

    def __init__(
        self, hist: Histogram, levels: npt.NDArray[np.int8], labels: Floats, tolerance: float, rounds: int
    ) -> None:
        self.rows = CellRows(hist.codes, labels[hist.groups])
        self.counts, self.n_groups = hist.counts, len(labels)
        self.answered, self.tolerance, self.rounds = hist.codes != ABSTAIN, tolerance, rounds
        self.place = hist.groups[:, None] * np.int64(LEVELS + 1) + levels + 1
        self.given = self.tally(np.ones(hist.codes.shape))
        self.cell = np.zeros((LEVELS + 1, 3))
        self.cell[0, _PLAIN] = self.cell[1:, _INTERCEPT] = 1.0
        self.cell[1:, _SLOPE] = LOG_ODDS

    def tally(self, right: Floats) -> Numbers:
        """(m, g, levels + 1) sums over the cells of numbers per vote; first the votes without a score."""
        size, shape = self.n_groups * (LEVELS + 1), (self.n_groups, LEVELS + 1)
        columns = zip(self.place.T, np.where(self.answered, right, 0.0).T, strict=True)
        return np.stack([np.bincount(at, self.counts * n, size).reshape(shape) for at, n in columns])

    def right(self, log_odds: Numbers) -> Numbers:
        """E step: tally of the votes expected to be right, given (m, g, levels + 1) log odds."""
        flat = log_odds.reshape(len(log_odds), -1)
        accuracy = np.stack([sigmoid(own)[at] for own, at in zip(flat, self.place.T, strict=True)], axis=1)
        return self.tally(self.rows.expect(accuracy)[0])

    def within_groups(self, strata: npt.NDArray[np.int64]) -> tuple[Numbers, Numbers]:
        """(m,) slopes, with intercepts per stratum, (g,) of the groups, and each in standard errors."""
        size = int(strata.max(initial=0)) + 1
        design = np.concatenate(
            [np.tile(self.cell, (size, 1)), np.repeat(np.eye(size), LEVELS + 1, axis=0)], axis=1
        )
        theta = self._loop(design, np.append(_PULL, np.full(size, _GROUP_PULL)), strata)
        given = _merged(self.given, strata)
        odds = (theta @ design.T).reshape(given.shape)[:, :, 1:]
        spread = given[:, :, 1:] * sigmoid(odds) * sigmoid(-odds)
        mass = np.maximum(spread.sum(axis=2, keepdims=True), 1e-12)
        away = np.array(LOG_ODDS) - (spread * LOG_ODDS).sum(axis=2, keepdims=True) / mass
        information = (spread * away**2).sum(axis=(1, 2))
        return theta[:, _SLOPE], theta[:, _SLOPE] * np.sqrt(information)

    def pooled(self) -> tuple[Numbers, Numbers]:
        """(m, 3) intercept, slope and unused, and (m,) log odds of votes without a score."""
        theta = self._loop(self.cell, _PULL, np.zeros(self.n_groups, np.int64))
        right = self.right(np.broadcast_to((theta @ self.cell.T)[:, None], self.given.shape)).sum(axis=1)
        given = self.given.sum(axis=1)
        usual = (right.sum(axis=1) + 1.0) / (given.sum(axis=1) + 2.0)
        # A member that has always scored its votes may stop to do so.
        plain = (right[:, 0] + _PSEUDO * usual) / (given[:, 0] + _PSEUDO)
        return theta, np.log(plain / (1.0 - plain))

    def _loop(self, design: Numbers, pull: Numbers, strata: npt.NDArray[np.int64]) -> Numbers:
        """(m, d) parameters of the log odds ``design @ theta`` at every level of every stratum."""
        center = np.append(_CENTER, np.zeros(len(pull) - 3))
        theta = np.tile(center, (len(self.given), 1))
        theta[:, _PLAIN] = _START
        given = _merged(self.given, strata)
        for _ in range(self.rounds):
            odds = (theta @ design.T).reshape(given.shape)
            right = _merged(self.right(odds[:, strata]), strata)
            before, theta = theta, _fit_logits(theta, design, (given, right), center, pull)
            if np.abs(theta - before).max() < self.tolerance:
                break
        return theta


def _strata(given: Numbers) -> npt.NDArray[np.int64]:
    """(g,) stratum of each group: its own, or one with the groups of alike mean scores.

    ``given`` (m, g, levels + 1) counts the votes, first those without a score.
    """
    groups = np.arange(given.shape[1])
    if len(groups) <= MAX_STRATA:
        return groups
    scored = given[:, :, 1:].sum(axis=0)
    mean = scored @ np.arange(LEVELS) / np.maximum(scored.sum(axis=1), 1e-9)
    return np.asarray(np.argsort(np.argsort(mean, kind="stable")) * MAX_STRATA // len(groups), np.int64)


def _merged(tally: Numbers, strata: npt.NDArray[np.int64]) -> Numbers:
    """(m, s, levels + 1) sums over the groups of each stratum."""
    parts = (tally[:, strata == stratum].sum(axis=1) for stratum in range(int(strata.max(initial=0)) + 1))
    return np.stack(list(parts), axis=1)


def _fit_logits(
    start: Numbers, design: Numbers, cells: tuple[Numbers, Numbers], center: Numbers, pull: Numbers
) -> Numbers:
    """M step: (m, d) ridge logistic regression of each member, by (given, right) votes; slopes are >= 0."""
    given, right = (part.reshape(len(start), -1) for part in cells)

    def objective(theta: Floats) -> tuple[Floats, Floats, Floats]:
        odds, away = theta @ design.T, theta - center
        p = sigmoid(odds)
        value = (given * np.logaddexp(0.0, odds) - right * odds).sum(axis=1) + 0.5 * away**2 @ pull
        second = np.matmul(design.T * (given * p * (1.0 - p))[:, None, :], design) + np.diag(pull)
        return value, (given * p - right) @ design + pull * away, second

    lower = np.where(np.arange(start.shape[1]) == _SLOPE, 0.0, -np.inf)
    return minimise(objective, start, lower)


def sigmoid(x: Numbers) -> Numbers:
    """Logistic function, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))
