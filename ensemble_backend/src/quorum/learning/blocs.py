# SPDX-License-Identifier: Apache-2.0
"""Members that repeat each other, found without gold, and weights that count them as little more than one.

A bloc makes its members look accurate: they agree with each other. Three models of the agreement patterns
compete by BIC: independent one-coin members; the same with some members copying a common draw; and cells of
two difficulties, which too makes members agree more than chance, all of them alike. Only where copying
explains the patterns best, and at least two members stand outside, are the weights changed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, agreeing, leaders
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN
from quorum.learning.correlation import correlation
from quorum.learning.design import Design, fit_around
from quorum.learning.em import OneCoin, posterior
from quorum.learning.misfit import Misfit, expected_counts, misfit

MIN_MEMBERS = 4
MAX_ROWS = 1000
"""With more patterns than this (6 members have at most 877), :data:`DRAWN` cells stand for all."""
DRAWN = 2000
_EVIDENCE = 6.0
_MISFIT = 2.0
_SCREEN, _GROW, _FULL, _MIXTURE = 15, 40, 300, 200
_PAIRS, _SHORTLIST = 10, 4
_TOLERANCE = 3e-6
# Folds and draws of labels have the same votes, in which the search would find the same.
_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class Bloc:
    """Members that copy a common draw.

    Attributes:
        members: Their indices, sorted.
        share: Probability that a member of the bloc copies instead of answering by itself.
        gain: By how much the BIC beats the better of the other two models.
        weights: (m,) weights of a linear vote that comes closest to this model's posterior, >= 0.
        misfit: What copying leaves unexplained of the patterns, and ``left`` as a share of what
            independent members leave.
    """

    members: tuple[int, ...]
    share: float
    gain: float
    weights: Floats
    misfit: Misfit
    left: float


def find_bloc(hist: Histogram, labels: float) -> Bloc | None:
    """Look for the bloc that explains the agreement patterns best.

    Model: a bloc's common draw is right with its own probability, else one of the other L - 1 values; each
    member of the bloc copies it with probability ``share``, else answers as a one-coin member. The model is
    fitted by EM; pairs are tried first and grown while the likelihood rises.

    Args:
        hist: Votes; gold is not looked at.
        labels: L, the number of possible values.

    Returns:
        The bloc, or None: fewer than four members, or no bloc that beats both other models.
    """
    return _found(_votes(hist, labels))


def hard_cells(hist: Histogram, labels: float) -> Misfit:
    """What cells of two difficulties leave unexplained of the patterns; arguments of :func:`find_bloc`."""
    votes = _votes(hist, labels)
    small = votes.hist
    parameters = 2 * int(small.active.sum()) + 1
    return _misfit(small, _two_difficulties(votes), labels, parameters)


def rival(hist: Histogram, labels: float, bloc: Bloc) -> float:
    """What copying by the best pair outside a bloc, instead of in it, leaves unexplained, in nats per cell.

    Two pairs that repeat each other explain agreement alike, and which of them is right votes do not tell.
    """
    votes = _votes(hist, labels)
    small = votes.hist
    accuracy = np.nan_to_num(OneCoin(labels, per_group=False).fit(small).accuracy_, nan=0.5)
    outside = [j for j in np.flatnonzero(small.active).tolist() if j not in bloc.members]
    excess = np.nan_to_num(correlation(small, accuracy, labels).z)
    pairs = sorted(itertools.combinations(outside, 2), key=lambda pair: -excess[pair])[:_SHORTLIST]
    rows = _Rows(small, labels)
    parameters = int(small.active.sum()) + 2
    ends = (
        rows.improve(_start(pair, accuracy, cautious), _FULL) for pair in pairs for cautious in (False, True)
    )
    shares = (_misfit(small, rows.likelihood(end), labels, parameters).share for end in ends)
    return min(shares, default=np.inf)


@dataclass(frozen=True, slots=True)
class _Votes:
    """Votes to search, equal where their patterns and counts are."""

    members: int
    content: tuple[bytes, ...]
    labels: float
    hist: Histogram = field(compare=False)


def _votes(hist: Histogram, labels: float) -> _Votes:
    hist = _small(hist.pooled().unlabelled().na_as_value())
    arrays = (hist.codes, hist.counts, *(() if hist.levels is None else (hist.levels,)))
    return _Votes(hist.members, tuple(array.tobytes() for array in arrays), labels, hist)


def _misfit(hist: Histogram, likelihood: Floats, labels: float, parameters: int) -> Misfit:
    expected = expected_counts(hist.codes, hist.counts, likelihood, labels)
    return misfit(hist.codes, hist.counts, expected, parameters)


@lru_cache(maxsize=_REMEMBERED)
def _found(votes: _Votes) -> Bloc | None:
    hist, labels = votes.hist, votes.labels
    active = np.flatnonzero(hist.active)
    if len(active) < MIN_MEMBERS:
        return None
    coin = OneCoin(labels, per_group=False).fit(hist)
    accuracy = np.nan_to_num(coin.accuracy_, nan=0.5)
    excess = np.nan_to_num(correlation(hist, accuracy, labels).z)
    if np.abs(excess).max() < _MISFIT:
        return None
    rows = _Rows(hist, labels)
    cells = np.log(hist.total)
    alone = posterior(hist.codes, accuracy, labels)[2]
    plain = len(active) * cells - 2.0 * float(hist.counts @ alone)
    hard = (2 * len(active) + 1) * cells - 2.0 * float(hist.counts @ _two_difficulties(votes))
    state = _search(rows, accuracy, active.tolist(), excess)
    bic = (len(active) + 2) * cells - 2.0 * state.likelihood
    gain = float(min(plain, hard) - bic)
    bloc = tuple(np.flatnonzero(state.bloc).tolist())
    if gain < _EVIDENCE or len(bloc) > len(active) - 2:
        return None
    weights = _linear(hist, rows.posterior(state))
    weights.setflags(write=False)
    own = _misfit(hist, rows.likelihood(state), labels, len(active) + 2)
    left = own.share / max(_misfit(hist, alone, labels, len(active)).share, 1e-9)
    return Bloc(bloc, float(state.share), gain, weights, own, left)


@dataclass(frozen=True, slots=True)
class _State:
    """Parameters of one copying model and the log-likelihood they reach."""

    bloc: npt.NDArray[np.bool_]
    accuracy: Floats
    common: float
    share: float
    likelihood: float = -np.inf


class _Rows:
    """Patterns laid out as (r, candidate): one entry per candidate named, the last for all that nobody named.

    A member's answer touches the joint probability of truth and common draw only through "is it the truth",
    "is it the draw" and "is it both", so that (r, candidate) sums stand for the whole (r, truth, draw) table.
    """

    def __init__(self, hist: Histogram, labels: float) -> None:
        codes, m = hist.codes, hist.members
        self.counts, self.answered = hist.counts, (codes != ABSTAIN).astype(np.float64)
        lead = leaders(codes)
        named = lead.sum(axis=1)
        self.wrong_values, self.size = labels - 1.0, np.maximum(labels, named)
        same = agreeing(codes) & lead[:, :, None]
        self.says = np.concatenate([same, np.zeros((len(codes), 1, m), np.bool_)], axis=1).astype(np.float64)
        self.flat = self.says.reshape(-1, m)
        self.mass = np.concatenate([lead.astype(np.float64), (self.size - named)[:, None]], axis=1)
        self.given = self.counts @ self.answered

    def joint(self, state: _State) -> tuple[Floats, Floats, Floats, Floats]:
        """(r, m + 1) of the truth, of the common draw and of both being it, times L; (r,) of a right draw."""
        miss = (1.0 - state.accuracy) / self.wrong_values
        copies = np.where(state.bloc, state.share, 0.0)
        by_miss, by_hit = (1.0 - copies) * miss, (1.0 - copies) * state.accuracy
        truth, draw = np.log(by_hit / by_miss), np.log1p(copies / by_miss)
        both = np.log1p(copies / by_hit) - draw
        base = np.exp(self.answered @ np.log(by_miss))[:, None]
        f, g = self.mass * np.exp(self.says @ truth), self.mass * np.exp(self.says @ draw)
        other = (1.0 - state.common) / self.wrong_values
        unnamed = np.maximum(self.mass[:, -1] - 1.0, 0.0) * other
        met = state.common * f * np.exp(self.says @ (draw + both))
        right = base[:, 0] * met.sum(axis=1)
        met[:, -1] += f[:, -1] * unnamed
        of_truth = base * (other * f * (g.sum(axis=1, keepdims=True) - g) + met)
        of_draw = base * (other * g * (f.sum(axis=1, keepdims=True) - f) + met)
        return of_truth, of_draw, base * met, right

    def improve(self, state: _State, rounds: int) -> _State:
        """Run EM."""
        answers = float(self.given[state.bloc].sum())
        for _ in range(rounds):
            of_truth, of_draw, met, right = self.joint(state)
            total = of_truth.sum(axis=1)
            likelihood = float(self.counts @ np.log(total / self.size))
            if likelihood - state.likelihood < _TOLERANCE * self.counts.sum():
                return replace(state, likelihood=likelihood)
            weight = self.counts / total
            hits, drawn, both = (
                (weight[:, None] * part).reshape(-1) @ self.flat for part in (of_truth, of_draw, met)
            )
            miss = (1.0 - state.accuracy) / self.wrong_values
            own = 1.0 - state.share
            if_right = np.where(state.bloc, state.share / (state.share + own * state.accuracy), 0.0)
            if_wrong = np.where(state.bloc, state.share / (state.share + own * miss), 0.0)
            copied_right, copied_wrong = if_right * both, if_wrong * (drawn - both)
            state = replace(
                state,
                accuracy=(hits - copied_right + 1.0) / (self.given - copied_right - copied_wrong + 2.0),
                common=float(weight @ right + 1.0) / float(self.counts.sum() + 2.0),
                share=float((copied_right + copied_wrong).sum() + 0.5) / (answers + 1.0),
                likelihood=likelihood,
            )
        return state

    def likelihood(self, state: _State) -> Floats:
        """(r,) log-likelihood of each row."""
        return np.asarray(np.log(self.joint(state)[0].sum(axis=1) / self.size))

    def posterior(self, state: _State) -> Floats:
        """(r, m + 1) posterior of the candidate that each member leads, and of what nobody named."""
        of_truth = self.joint(state)[0]
        return np.asarray(of_truth / of_truth.sum(axis=1, keepdims=True))


def _start(members: tuple[int, ...], accuracy: Floats, cautious: bool) -> _State:
    bloc = np.isin(np.arange(len(accuracy)), members)
    base = np.full(len(accuracy), 0.75) if cautious else accuracy
    return _State(bloc, np.where(bloc, 0.7, base), 0.75, 0.4)


def _search(rows: _Rows, accuracy: Floats, active: list[int], excess: Floats) -> _State:
    everyone = np.arange(len(accuracy))
    pairs = sorted(itertools.combinations(active, 2), key=lambda pair: -excess[pair])[:_PAIRS]
    quick = {pair: rows.improve(_start(pair, accuracy, cautious=False), _SCREEN).likelihood for pair in pairs}
    shortlist = sorted(pairs, key=lambda pair: -quick[pair])[:_SHORTLIST]
    starts = (_start(pair, accuracy, cautious) for pair in shortlist for cautious in (False, True))
    current = max((rows.improve(state, _GROW) for state in starts), key=lambda state: state.likelihood)
    while current.bloc.sum() < len(active) - 1:
        grown = [
            rows.improve(replace(current, bloc=current.bloc | (everyone == j), likelihood=-np.inf), _GROW)
            for j in active
            if not current.bloc[j]
        ]
        taller = max(grown, key=lambda state: state.likelihood)
        if taller.likelihood <= current.likelihood:
            break
        current = taller
    return rows.improve(replace(current, likelihood=-np.inf), _FULL)


@lru_cache(maxsize=_REMEMBERED)
def _two_difficulties(votes: _Votes) -> Floats:
    """(r,) log-likelihood of each row by a mixture of two kinds of cells, each with its own accuracies."""
    hist, labels = votes.hist, votes.labels
    accuracy = np.nan_to_num(OneCoin(labels, per_group=False).fit(hist).accuracy_, nan=0.5)
    answered = hist.codes != ABSTAIN
    kinds = [np.clip(accuracy + shift, 0.05, 0.98) for shift in (0.08, -0.25)]
    share, before = np.array([0.6, 0.4]), -np.inf
    for _ in range(_MIXTURE):
        parts = [posterior(hist.codes, p, labels) for p in kinds]
        logs = np.log(share) + np.stack([part[2] for part in parts], axis=1)
        top = logs.max(axis=1, keepdims=True)
        total = np.exp(logs - top).sum(axis=1)
        rows = top[:, 0] + np.log(total)
        likelihood = float(hist.counts @ rows)
        if likelihood - before < 1e-6 * hist.total:
            break
        before = likelihood
        weight = np.exp(logs - top) / total[:, None] * hist.counts[:, None]
        share = (weight.sum(axis=0) + 1.0) / (weight.sum() + 2.0)
        kinds = [
            (weight[:, k] @ part[0] + 1.0) / (weight[:, k] @ answered + 2.0) for k, part in enumerate(parts)
        ]
    rows.setflags(write=False)
    return np.asarray(rows)


def _linear(hist: Histogram, shares: Floats) -> Floats:
    """Weights of the conditional logit fitted to the posterior as if it were gold."""
    m, r = hist.members, len(hist.codes)
    bits = np.int64(1) << np.arange(m, dtype=np.int64)
    # One row per candidate that may be right, the last for none of those named.
    right = np.concatenate([agreeing(hist.codes) @ bits, np.zeros((r, 1), np.int64)], axis=1)
    soft = Histogram(
        codes=np.tile(hist.codes, (m + 1, 1)),
        groups=np.zeros(r * (m + 1), np.int32),
        right=right.T.reshape(-1),
        counts=(shares * hist.counts[:, None]).T.reshape(-1),
    )
    soft = soft.take(soft.counts > 1e-9 * hist.total)
    center = np.concatenate([np.ones(m), [0.0, 0.0]])[None]
    ridges = np.concatenate([np.ones(m), [np.inf, 0.05]])
    return np.asarray(fit_around(Design(soft).loss, center, ridges, m).theta[0, :-2])


def _small(hist: Histogram) -> Histogram:
    """A draw of cells where there are too many patterns to search."""
    if len(hist.counts) <= MAX_ROWS:
        return hist
    drawn = np.random.default_rng(0).multinomial(DRAWN, hist.counts / hist.total)
    return replace(hist, counts=drawn.astype(np.float64)).take(drawn > 0)
