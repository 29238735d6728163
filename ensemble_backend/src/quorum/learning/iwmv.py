# SPDX-License-Identifier: Apache-2.0
"""Iterative weighted majority voting, the method of the paper that quorum builds on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, agreeing, decide, leaders
from quorum.decision.cell import RELATIVE_TIE
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, Codes, Keys

_MAX_ROUNDS = 100


@dataclass(eq=False, repr=False)
class Iwmv:
    """Li & Yu's iteration: ``v <- L w - 1``, ``w`` the share of agreement with the current labels.

    Start with ``v = 1``; label every cell with the heaviest candidate; ``w_j`` = cells where member ``j``
    agrees with the label / cells it answered; ``v_j = L w_j - 1``; repeat until the labels no longer change.
    A cell whose heaviest candidates tie counts for each of them by an equal share, as it would on average if
    ties were broken by chance: else the first member, which wins ties, would be taken for the best.
    ``L w - 1`` is the linearisation of the MAP weight ``log((L-1) w / (1-w))`` at chance level ``w = 1/L``:
    it maximises a bound, so its distance to the best possible accuracy does not vanish with more data. Use
    :class:`quorum.learning.em.OneCoin` unless you need the paper's method.

    Where members only ever contradict each other, every label is a tie: there all weights stay 1.

    Source: Li and Yu, Error Rate Bounds and Iterative Weighted Majority Voting for Crowdsourcing,
    arXiv:1411.4086; used by Fang et al., LLM-Ensemble, arXiv:2403.00863.

    Attributes:
        labels: L, the number of possible values, >= 2: one number, or (g,) per group.
        per_group: Weights per group (the paper's form) instead of global ones.
        rule_: Rule with the signed weights of the paper, one row per group (one row if global).
        accuracy_: (g, m) share of agreement ``w``.
        n_iter_: Rounds until no label changed.
    """

    labels: Floats | float = 10.0
    per_group: bool = False
    rule_: Rule = field(init=False)
    accuracy_: Floats = field(init=False)
    n_iter_: int = field(init=False)

    def fit(self, hist: Histogram) -> Iwmv:
        """Learn the weights from a histogram; gold is not used."""
        hist = hist.unlabelled()
        labels = np.broadcast_to(np.asarray(self.labels, np.float64), (hist.n_groups,))
        if not self.per_group:
            sizes = np.bincount(hist.groups, hist.counts, hist.n_groups)
            labels = np.array([np.average(labels, weights=sizes) if sizes.sum() else labels.mean()])
            hist = hist.pooled()
        hist = hist.na_as_value()
        answered = hist.codes != ABSTAIN
        given = hist.per_group(answered)
        weights = np.ones((len(labels), hist.members))
        zero = np.zeros(len(labels))
        same, first = agreeing(hist.codes), leaders(hist.codes)
        labelled: Floats | None = None
        for round_ in range(1, _MAX_ROUNDS + 1):
            self.n_iter_ = round_
            chosen = _shares(same, first, weights[hist.groups])
            if labelled is not None and np.array_equal(chosen, labelled):
                break
            labelled = chosen
            agreed = hist.per_group(chosen)
            # A member that never answered has no agreement to measure: 0.5 keeps its weight finite.
            self.accuracy_ = np.divide(agreed, given, out=np.full(given.shape, 0.5), where=given > 0)
            weights = labels[:, None] * self.accuracy_ - 1.0
        contradicted = _contradicted(hist)
        weights[contradicted], self.accuracy_[contradicted] = 1.0, 0.5
        self.rule_ = Rule(weights, zero)
        return self

    def predict(self, codes: Codes, groups: Keys | None = None) -> Decision:
        """Decide (n, m) codes of the given (n,) groups; None: group 0. Global weights are for every group."""
        return decide(codes, self.rule_, groups if self.per_group else None)


def _shares(same: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """(r, m) share of each member's value in the label of the cell: 1, or less where the heaviest tie.

    Args:
        same: (r, m, m) from :func:`agreeing`.
        first: (r, m) from :func:`leaders`.
        weights: (r, m) weights.
    """
    answered = same.any(axis=2)
    totals = np.where(answered, np.einsum("rjk,rk->rj", same, weights), -np.inf)
    at_stake = np.where(answered, np.abs(weights), 0.0).sum(axis=1)
    heaviest = totals >= (totals.max(axis=1) - RELATIVE_TIE * at_stake)[:, None]
    heaviest &= answered
    return np.asarray(heaviest / np.maximum((heaviest & first).sum(axis=1, keepdims=True), 1))


def _contradicted(hist: Histogram) -> npt.NDArray[np.bool_]:
    """(g,) whether members of a group answered the same cells, and no two ever agreed."""
    answers = (hist.codes != ABSTAIN).sum(axis=1, keepdims=True)
    agreed = agreeing(hist.codes).sum(axis=(1, 2))[:, None] > answers
    together, same = hist.per_group(answers > 1), hist.per_group(agreed)
    return np.asarray((together > 0) & (same == 0))[:, 0]
