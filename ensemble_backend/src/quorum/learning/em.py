# SPDX-License-Identifier: Apache-2.0
"""One-coin Dawid-Skene by EM on agreement patterns, accuracies per attribute shrunk to the global."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from quorum.decision.arrays import Decision, Floats, Rule, agreeing, decide, leaders
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, Codes, Keys
from quorum.learning.shrinkage import best_strength
from quorum_contract.errors import QuorumError

MIN_MEMBERS = 3
DEFAULT_LABELS = 10.0
_PSEUDO = 1.0
_FLOOR = 1e-9


class TooFewMembersError(QuorumError, ValueError):
    """Accuracies of fewer than three members cannot be told from their agreement alone."""

    code = "TOO_FEW_MEMBERS"


@dataclass(eq=False, repr=False)
class OneCoin:
    """Accuracies of the members without gold.

    Model: the truth is one of ``L`` values, uniformly; member ``j`` names it with probability ``p_j``, else
    one of the others, uniformly and independently of the other members. The MAP vote then has the weights
    ``log((L-1) p_j / (1-p_j))``. Per group, ``p_gj ~ Beta(kappa p_j, kappa (1-p_j))`` with ``kappa`` chosen
    by empirical Bayes: groups that do not differ share one accuracy, groups that do keep their own. The
    posterior is overconfident on real LLM votes, whose errors are correlated: never show it as a probability.

    Source: Dawid and Skene 1979, doi:10.2307/2346806; weights as in Li and Yu, arXiv:1411.4086.

    Attributes:
        labels: L, the number of possible values, >= 2: one number, or (g,) per group. 10 if open.
        per_group: Also learn accuracies per group.
        tolerance: Stop when no accuracy moves by more than this in a round.
        max_rounds: Rounds of each EM loop at most.
        rule_: Weights per group, negative ones (worse than chance) set to 0; confidence is agreement.
        accuracy_: (m,) global accuracy of the members; nan for one that never answered.
        group_accuracy_: (g, m) shrunk accuracies.
        strength_: kappa; inf: the groups do not differ.
        log_likelihood_: Log posterior density after every round of the global fit; never falls.
    """

    labels: Floats | float = DEFAULT_LABELS
    per_group: bool = True
    tolerance: float = 1e-7
    max_rounds: int = 500
    rule_: Rule = field(init=False)
    accuracy_: Floats = field(init=False)
    group_accuracy_: Floats = field(init=False)
    strength_: float = field(init=False)
    log_likelihood_: list[float] = field(init=False)

    def fit(self, hist: Histogram) -> OneCoin:
        """Learn from votes, not from gold; raises TooFewMembersError if fewer than 3 members gave any."""
        hist = hist.unlabelled().na_as_value()
        active = hist.active
        if active.sum() < MIN_MEMBERS:
            raise TooFewMembersError(
                f"{int(active.sum())} of {hist.members} members ever answered; learning without gold needs "
                f"{MIN_MEMBERS}: add members, label some cells (loglinear), or use majority"
            )
        labels = np.broadcast_to(np.asarray(self.labels, np.float64), (hist.n_groups,))
        rows = CellRows(hist.codes, labels[hist.groups])
        accuracy, self.strength_ = self._fit_global(hist, rows), math.inf
        shrunk = np.repeat(accuracy[None], hist.n_groups, axis=0)
        if self.per_group and hist.n_groups > 1:
            accuracy, shrunk = self._fit_groups(hist, rows, shrunk)
        self.accuracy_ = np.where(active, accuracy, np.nan)
        self.group_accuracy_ = np.where(active, shrunk, np.nan)
        weights = np.where(active, log_odds(shrunk, labels[:, None]), 0.0)
        self.rule_ = Rule(np.maximum(weights, 0.0), np.zeros(hist.n_groups))
        return self

    def _fit_global(self, hist: Histogram, rows: CellRows) -> Floats:
        given = hist.per_group(rows.answered).sum(axis=0)
        accuracy, self.log_likelihood_ = _majority_start(hist), []
        for _ in range(self.max_rounds):
            shares, _, likelihood = rows.expect(np.broadcast_to(accuracy, hist.codes.shape))
            p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
            prior = _PSEUDO * (np.log(p) + np.log1p(-p)).sum()
            self.log_likelihood_.append(float(hist.counts @ likelihood) + float(prior))
            before, accuracy = accuracy, _rate(hist.per_group(shares).sum(axis=0), given)
            if np.abs(accuracy - before).max() < self.tolerance:
                break
        return accuracy

    def _fit_groups(self, hist: Histogram, rows: CellRows, shrunk: Floats) -> tuple[Floats, Floats]:
        """The accuracies again, with the groups' own deviations taken out, and (g, m) shrunk ones."""
        given = hist.per_group(rows.answered)
        for _ in range(self.max_rounds):
            right = hist.per_group(rows.expect(shrunk[hist.groups])[0])
            accuracy = _rate(right.sum(axis=0), given.sum(axis=0))
            self.strength_ = best_strength(right, given, accuracy)
            before = shrunk
            if math.isinf(self.strength_):
                shrunk = np.repeat(accuracy[None], hist.n_groups, axis=0)
            else:
                shrunk = (right + self.strength_ * accuracy) / (given + self.strength_)
            if np.abs(shrunk - before).max() < 100.0 * self.tolerance:
                break
        return accuracy, shrunk

    def default_rule(self, labels: float) -> Rule:
        """One row of global weights, for groups not seen in the fit, with ``labels`` possible values."""
        weights = np.where(np.isnan(self.accuracy_), 0.0, log_odds(np.nan_to_num(self.accuracy_), labels))
        return Rule(np.maximum(weights, 0.0)[None], np.zeros(1))

    def predict(self, codes: Codes, groups: Keys | None = None) -> Decision:
        """Decide (n, m) codes of the given (n,) groups (None: group 0); unanimity is never overruled."""
        return decide(codes, self.rule_, groups)


def log_odds(accuracy: Floats, labels: Floats | float) -> Floats:
    """MAP weight ``log((L-1) p / (1-p))`` of a one-coin member; finite for every p in [0, 1]."""
    p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
    return np.asarray(np.log((labels - 1.0) * p / (1.0 - p)))


def posterior(codes: Codes, accuracy: Floats, labels: float) -> tuple[Floats, Floats, Floats]:
    """Posterior of each member's candidate, and of all values that nobody named.

    Args:
        codes: (r, m) codes.
        accuracy: (m,) accuracies.
        labels: L; raised to the number of candidates where a row has more.

    Returns:
        (r, m) probabilities (0 for an abstention), (r,) the probability of "none of the above", and (r,) the
        log-likelihood of each row.
    """
    return CellRows(codes, np.full(len(codes), labels)).expect(np.broadcast_to(accuracy, codes.shape))


class CellRows:
    """The rows of votes that an E step runs over.

    Args:
        codes: (r, m) codes.
        labels: (r,) L of each row.
    """

    def __init__(self, codes: Codes, labels: Floats) -> None:
        self.answered = codes != ABSTAIN
        self.leader = leaders(codes)
        candidates = self.leader.sum(axis=1)
        self.labels = np.maximum(np.maximum(labels, candidates), 2.0)
        self.unnamed = self.labels - candidates
        self.same = agreeing(codes).astype(np.float64)

    def expect(self, accuracy: Floats) -> tuple[Floats, Floats, Floats]:
        """E step: (r, m) posterior of each candidate, (r,) of the unnamed rest, (r,) log-likelihood."""
        p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
        wrong = np.log((1.0 - p) / (self.labels[:, None] - 1.0))
        gain = np.where(self.answered, np.log(p) - wrong, 0.0)
        base = np.where(self.answered, wrong, 0.0).sum(axis=1)
        score = np.einsum("rjk,rk->rj", self.same, gain)
        top = np.maximum(np.where(self.answered, score, -np.inf).max(axis=1), 0.0)
        terms = np.where(self.answered, np.exp(score - top[:, None]), 0.0)
        rest = self.unnamed * np.exp(-top)
        total = (terms * self.leader).sum(axis=1) + rest
        return terms / total[:, None], rest / total, base + top + np.log(total / self.labels)


def _majority_start(hist: Histogram) -> Floats:
    """(m,) mean agreement of each member with the others, kept inside (0.55, 0.95)."""
    answered = hist.codes != ABSTAIN
    shares = np.zeros(hist.members)
    for j in range(hist.members):
        others = (hist.codes == hist.codes[:, j : j + 1]).sum(axis=1) - 1
        compared = answered[:, j] & (answered.sum(axis=1) > 1)
        weight = hist.counts[compared]
        voters = answered[compared].sum(axis=1) - 1
        shares[j] = np.average(others[compared] / voters, weights=weight) if weight.sum() else 0.75
    return np.clip(shares, 0.55, 0.95)


def _rate(right: Floats, given: Floats) -> Floats:
    return (right + _PSEUDO) / (given + 2.0 * _PSEUDO)
