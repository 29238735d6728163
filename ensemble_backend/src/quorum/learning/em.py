# SPDX-License-Identifier: Apache-2.0
"""One-coin Dawid-Skene by EM on agreement patterns, accuracies per attribute shrunk to the global."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, decide, leaders
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


class OneCoin:
    """Accuracies of the members without gold.

    Model: the truth is one of ``L`` values, uniformly; member ``j`` names it with probability ``p_j``, else
    one of the others, uniformly and independently of the other members. The MAP vote then has the weights
    ``log((L-1) p_j / (1-p_j))``. Per group, ``p_gj ~ Beta(kappa p_j, kappa (1-p_j))`` with ``kappa`` chosen
    by empirical Bayes: groups that do not differ share one accuracy, groups that do keep their own. The
    posterior is overconfident on real LLM votes, whose errors are correlated: never show it as a probability.

    Source: Dawid and Skene 1979, doi:10.2307/2346806; weights as in Li and Yu, arXiv:1411.4086.

    Attributes:
        rule_: Weights per group, negative ones (worse than chance) set to 0; confidence is agreement.
        accuracy_: (m,) global accuracy of the members; nan for one that never answered.
        group_accuracy_: (g, m) shrunk accuracies.
        strength_: kappa; inf: the groups do not differ.
        log_likelihood_: Log posterior density after every round of the global fit; never falls.
    """

    rule_: Rule
    accuracy_: Floats
    group_accuracy_: Floats
    strength_: float
    log_likelihood_: list[float]
    labels_: Floats

    def __init__(
        self,
        labels: Floats | float = DEFAULT_LABELS,
        per_group: bool = True,
        tolerance: float = 1e-7,
        max_rounds: int = 500,
    ) -> None:
        """Set up.

        Args:
            labels: L, the number of possible values, >= 2: one number, or (g,) per group. 10 if open.
            per_group: Also learn accuracies per group.
            tolerance: Stop when no accuracy moves by more than this in a round.
            max_rounds: Rounds of each EM loop at most.
        """
        self.labels = labels
        self.per_group = per_group
        self.tolerance = tolerance
        self.max_rounds = max_rounds

    def fit(self, hist: Histogram) -> OneCoin:
        """Learn from a histogram; gold is not looked at.

        Raises:
            TooFewMembersError: Fewer than 3 members gave any vote.
        """
        hist = hist.unlabelled().na_as_value()
        n_groups = max(hist.n_groups, 1)
        self.labels_ = np.broadcast_to(np.asarray(self.labels, np.float64), (n_groups,)).copy()
        active = ((hist.codes != ABSTAIN) & (hist.counts[:, None] > 0)).any(axis=0)
        if active.sum() < MIN_MEMBERS:
            raise TooFewMembersError(
                f"{int(active.sum())} of {hist.members} members ever answered; learning without gold needs "
                f"{MIN_MEMBERS}: add members, label some cells (loglinear), or use majority"
            )
        model = _Model(hist, self.labels_)
        start = _majority_start(hist)
        accuracy, self.log_likelihood_ = _global_em(model, start, self.tolerance, self.max_rounds)
        if self.per_group and n_groups > 1:
            accuracy, shrunk, self.strength_ = _group_em(model, accuracy, self.tolerance, self.max_rounds)
        else:
            shrunk, self.strength_ = np.repeat(accuracy[None], n_groups, axis=0), math.inf
        self.accuracy_ = np.where(active, accuracy, np.nan)
        self.group_accuracy_ = np.where(active, shrunk, np.nan)
        weights = np.where(active, log_odds(shrunk, self.labels_[:, None]), 0.0)
        self.rule_ = Rule(np.maximum(weights, 0.0), np.zeros(n_groups))
        return self

    def default_rule(self, labels: float) -> Rule:
        """One row of global weights, for groups not seen in the fit, with ``labels`` possible values."""
        weights = np.where(np.isnan(self.accuracy_), 0.0, log_odds(np.nan_to_num(self.accuracy_), labels))
        return Rule(np.maximum(weights, 0.0)[None], np.zeros(1))

    def predict(self, codes: Codes, groups: Keys | None = None) -> Decision:
        """Decide (n, m) codes of the given (n,) groups (None: group 0); unanimity is never overruled."""
        return decide(codes, self.rule_, groups)

    def predict_proba(self, codes: Codes, groups: Keys | None = None) -> Floats:
        """(n,) weighted agreement behind each decision, in [0, 1]; not a probability of being right."""
        return self.predict(codes, groups).confidence


def log_odds(accuracy: Floats, labels: Floats | float) -> Floats:
    """MAP weight ``log((L-1) p / (1-p))`` of a one-coin member; finite for every p in [0, 1]."""
    p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
    return np.asarray(np.log((labels - 1.0) * p / (1.0 - p)))


def posterior(codes: Codes, accuracy: Floats, labels: Floats | float) -> tuple[Floats, Floats]:
    """Posterior of each member's candidate, and of all values that nobody named.

    Args:
        codes: (r, m) codes.
        accuracy: (m,) or (r, m) accuracies.
        labels: L, one number or (r,); raised to the number of candidates where a row has more.

    Returns:
        (r, m) probabilities (0 for an abstention) and (r,) the probability of "none of the above".
    """
    shares, rest, _ = posterior_model(codes, accuracy, labels)
    return shares, rest


def posterior_model(codes: Codes, accuracy: Floats, labels: Floats | float) -> tuple[Floats, Floats, Floats]:
    """:func:`posterior`, and the (r,) log-likelihood of each row."""
    model = _Rows(codes, np.broadcast_to(np.asarray(labels, np.float64), (len(codes),)))
    return model.expect(np.broadcast_to(accuracy, codes.shape))


class _Rows:
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
        self.same = (
            (codes[:, :, None] == codes[:, None, :]) & self.answered[:, None, :] & self.answered[:, :, None]
        )
        self.same_float = self.same.astype(np.float64)

    def expect(self, accuracy: Floats) -> tuple[Floats, Floats, Floats]:
        """E step: (r, m) posterior of each candidate, (r,) of the unnamed rest, (r,) log-likelihood."""
        p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
        wrong = np.log((1.0 - p) / (self.labels[:, None] - 1.0))
        gain = np.where(self.answered, np.log(p) - wrong, 0.0)
        base = np.where(self.answered, wrong, 0.0).sum(axis=1)
        score = np.einsum("rjk,rk->rj", self.same_float, gain)
        top = np.maximum(np.where(self.answered, score, -np.inf).max(axis=1), 0.0)
        terms = np.where(self.answered, np.exp(score - top[:, None]), 0.0)
        rest = self.unnamed * np.exp(-top)
        total = (terms * self.leader).sum(axis=1) + rest
        return terms / total[:, None], rest / total, base + top + np.log(total / self.labels)


class _Model(_Rows):
    """What stays the same between rounds of EM for one histogram."""

    def __init__(self, hist: Histogram, labels: Floats) -> None:
        super().__init__(hist.codes, labels[hist.groups])
        self.groups, self.counts, self.n_groups = hist.groups, hist.counts, len(labels)
        self.given = self._per_group(self.answered)

    def right(self, shares: Floats) -> Floats:
        """(g, m) expected number of right answers."""
        return self._per_group(shares)

    def _per_group(self, columns: npt.NDArray[Any]) -> Floats:
        sums = [np.bincount(self.groups, self.counts * column, self.n_groups) for column in columns.T]
        return np.stack(sums, axis=1).astype(np.float64)


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


def _global_em(model: _Model, accuracy: Floats, tolerance: float, rounds: int) -> tuple[Floats, list[float]]:
    given = model.given.sum(axis=0)
    history: list[float] = []
    for _ in range(rounds):
        shares, _, likelihood = model.expect(np.broadcast_to(accuracy, model.answered.shape))
        p = np.clip(accuracy, _FLOOR, 1.0 - _FLOOR)
        prior = _PSEUDO * (np.log(p) + np.log1p(-p)).sum()
        history.append(float(model.counts @ likelihood) + float(prior))
        updated = (model.right(shares).sum(axis=0) + _PSEUDO) / (given + 2.0 * _PSEUDO)
        moved = float(np.abs(updated - accuracy).max())
        accuracy = updated
        if moved < tolerance:
            break
    return accuracy, history


def _group_em(model: _Model, accuracy: Floats, tolerance: float, rounds: int) -> tuple[Floats, Floats, float]:
    shrunk = np.repeat(accuracy[None], model.n_groups, axis=0)
    strength = math.inf
    for _ in range(rounds):
        shares, _, _ = model.expect(shrunk[model.groups])
        right = model.right(shares)
        total, given = right.sum(axis=0), model.given.sum(axis=0)
        accuracy = (total + _PSEUDO) / (given + 2.0 * _PSEUDO)
        strength = best_strength(right, model.given, accuracy)
        if math.isinf(strength):
            updated = np.repeat(accuracy[None], model.n_groups, axis=0)
        else:
            updated = (right + strength * accuracy) / (model.given + strength)
        moved = float(np.abs(updated - shrunk).max())
        shrunk = updated
        if moved < 100.0 * tolerance:
            break
    return accuracy, shrunk, strength
