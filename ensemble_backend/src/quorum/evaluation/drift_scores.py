# SPDX-License-Identifier: Apache-2.0
"""Count how sure each member is of its votes, in the reference and on a day: no labels, no other members.

The scores of a member fall into two halves, by attribute and by whether it named a value or answered "n/a":
those from the level on at which the reference comes closest to one half, and those below. A vote is *sure* if
it is in the upper one. Ties of scores at the border do no harm: the reference's own rate is what is tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, NA
from quorum.decision.scores import LEVELS, NO_SCORE, levels_of
from quorum.evaluation.evidence import Outcomes, Rates, Strata, reference_rates
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable

SURER, LESS_SURE, UNSCORED = "is surer", "is less sure", "gives fewer scores"
SCORE_KINDS = (SURER, LESS_SURE, UNSCORED)
"""Kinds of change that are tested for each member whose votes had scores."""
_NONE_LEFT = "gives no scores any more"
_ANSWERS = 2


@dataclass(frozen=True, slots=True)
class ScoreDrift:
    """How sure a member was of its votes; shares of the day's votes with a score, nan where there are none.

    Attributes:
        scored: Votes of the day with a score.
        sure: Share of these in the upper half, as the reference has it.
        expected: That share in the reference, at the day's mixture of attributes and "n/a"; its interval is
            ``low`` to ``high``.
        unscored: Share of the day's votes without a score; ``unscored_before``: of the reference's.
    """

    member: str
    scored: int
    sure: float
    expected: float
    low: float
    high: float
    unscored: float
    unscored_before: float


class ScoredCells:
    """Rows of the reference, then cells of the day, split by the levels of scores."""

    def __init__(self, statistic: Statistic, day: VotesTable) -> None:
        past = statistic.scored if statistic.scored is not None else statistic.hist.unlabelled()
        self.members, self.counts = day.members, past.counts
        self.codes = np.concatenate([past.codes, day.codes])
        self.levels = np.concatenate([_levels(past), levels_of(day.scores)])
        self.levels[self.codes == ABSTAIN] = NO_SCORE
        known = {name: i for i, name in enumerate(sorted({attribute for _, attribute in statistic.groups}))}
        names = [*statistic.groups, *day.group_names]
        groups = np.concatenate([past.groups, day.groups + len(statistic.groups)])
        self.attribute = np.array([known.get(name, -1) for _, name in names], np.int64)[groups]
        self.n_strata = _ANSWERS * len(known)

    def has_scores(self, member: int) -> bool:
        """Whether votes of a member have scores in the reference."""
        return bool((self.levels[: len(self.counts), member] != NO_SCORE).any())

    def series(self, member: int, kind: str) -> tuple[Rates, Outcomes, Strata]:
        """Rates of the reference; outcomes and strata of the day."""
        outcome, stratum = self._unscored(member) if kind == UNSCORED else self._sure(member)
        past = len(self.counts)
        rates = reference_rates(outcome[:past], stratum[:past], self.counts, self.n_strata, _ANSWERS)
        return rates, outcome[past:], stratum[past:]

    def figures(self, member: int) -> ScoreDrift:
        """How sure a member was."""
        rates, outcome, stratum = self.series(member, LESS_SURE)
        known, past = outcome >= 0, len(self.counts)
        scored = int(known.sum())
        all_scored = scored or math.nan
        mixture = np.bincount(stratum[known], minlength=self.n_strata) / all_scored
        expected, low, high = (float(mixture @ rate) for rate in (rates.rate, rates.low, rates.high))
        answered = self.codes[:, member] != ABSTAIN
        silent = answered & (self.levels[:, member] == NO_SCORE)
        votes = np.array([answered[past:].sum(), self.counts @ answered[:past]])
        without = np.array([silent[past:].sum(), self.counts @ silent[:past]])
        unscored, before = (without / np.where(votes > 0.0, votes, math.nan)).tolist()
        sure = float((outcome == 1).sum() / all_scored)
        return ScoreDrift(self.members[member], scored, sure, expected, low, high, unscored, before)

    def _sure(self, member: int) -> tuple[Outcomes, Strata]:
        """(n,) 1: in the upper half, 0: in the lower, -1: no score; (n,) stratum."""
        stratum, level = self._strata(member), self.levels[:, member]
        known, past = (level != NO_SCORE) & (self.attribute >= 0), len(self.counts)
        rows = np.flatnonzero(known[:past])
        place = stratum[rows] * LEVELS + level[rows]
        held = np.bincount(place, self.counts[rows], self.n_strata * LEVELS).reshape(-1, LEVELS)
        # Attributes that the reference hardly has take the halves of the others.
        held = held + held.sum(axis=0) / max(float(held.sum()), 1e-9)
        above = np.cumsum(held[:, ::-1], axis=1)[:, ::-1] / held.sum(axis=1, keepdims=True)
        border = np.abs(above[:, 1:] - 0.5).argmin(axis=1) + 1
        return np.where(known, level >= border[stratum], -1).astype(np.int8), stratum

    def _unscored(self, member: int) -> tuple[Outcomes, Strata]:
        """(n,) 1: a vote without a score, 0: with one, -1: no vote; (n,) stratum."""
        answered = (self.codes[:, member] != ABSTAIN) & (self.attribute >= 0)
        outcome = np.where(answered, self.levels[:, member] == NO_SCORE, -1)
        return outcome.astype(np.int8), self._strata(member)

    def _strata(self, member: int) -> Strata:
        return np.asarray(np.maximum(self.attribute, 0) * _ANSWERS + (self.codes[:, member] == NA), np.int64)


def words_of(kind: str, scored: int) -> str:
    """A kind of change in words, given the number of the day's votes with a score."""
    return _NONE_LEFT if kind == UNSCORED and not scored else f"{kind} than before"


def _levels(hist: Histogram) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.full(hist.codes.shape, NO_SCORE, np.int8) if hist.levels is None else hist.levels
