# SPDX-License-Identifier: Apache-2.0
"""Iterative weighted majority voting, the method of the paper that quorum builds on."""

from __future__ import annotations

import numpy as np

from quorum.decision.arrays import Decision, Floats, Rule, decide, decide_rows
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, Codes, Keys


class Iwmv:
    """Li & Yu's iteration: ``v <- L w - 1``, ``w`` the share of agreement with the current labels.

    Start with ``v = 1``; label every cell with the heaviest candidate; ``w_j`` = cells where member ``j``
    agrees with the label / cells it answered; ``v_j = L w_j - 1``; repeat until the labels no longer change.
    ``L w - 1`` is the linearisation of the MAP weight ``log((L-1) w / (1-w))`` at chance level ``w = 1/L``:
    it maximises a bound, so its distance to the best possible accuracy does not vanish with more data. Use
    :class:`quorum.learning.em.OneCoin` unless you need the paper's method.

    Source: Li and Yu, Error Rate Bounds and Iterative Weighted Majority Voting for Crowdsourcing,
    arXiv:1411.4086; used by Fang et al., LLM-Ensemble, arXiv:2403.00863.

    Attributes:
        rule_: Rule with the signed weights of the paper, one row per group (one row if global).
        accuracy_: (g, m) share of agreement ``w``.
        n_iter_: Rounds until no label changed.
    """

    rule_: Rule
    accuracy_: Floats
    n_iter_: int

    def __init__(self, labels: Floats | float = 10.0, per_group: bool = False, max_rounds: int = 100) -> None:
        """Set up.

        Args:
            labels: L, the number of possible values, >= 2: one number, or (g,) per group.
            per_group: Weights per group (the paper's form) instead of global ones.
            max_rounds: Maximum number of rounds.
        """
        self.labels = labels
        self.per_group = per_group
        self.max_rounds = max_rounds

    def fit(self, hist: Histogram) -> Iwmv:
        """Learn the weights from a histogram; gold is not used."""
        hist = hist.unlabelled()
        n_groups = max(hist.n_groups, 1)
        labels = np.broadcast_to(np.asarray(self.labels, np.float64), (n_groups,))
        if not self.per_group:
            sizes = np.bincount(hist.groups, hist.counts, n_groups)
            labels = np.array([np.average(labels, weights=sizes) if sizes.sum() else labels.mean()])
            hist = hist.pooled()
        hist = hist.na_as_value()
        weights = np.ones((len(labels), hist.members))
        zero = np.zeros(len(labels))
        labelled: Codes | None = None
        for round_ in range(1, self.max_rounds + 1):
            self.n_iter_ = round_
            winner = decide_rows(hist.codes, Rule(weights, zero), hist.groups).winner
            chosen = np.take_along_axis(hist.codes, np.maximum(winner, 0)[:, None], axis=1)
            if labelled is not None and np.array_equal(chosen, labelled):
                break
            labelled = chosen
            self.accuracy_ = _agreement(hist, chosen, len(labels))
            weights = labels[:, None] * self.accuracy_ - 1.0
        self.rule_ = Rule(weights, zero)
        return self

    def predict(self, codes: Codes, groups: Keys | None = None) -> Decision:
        """Decide (n, m) codes; (n,) groups are needed when the weights are per group."""
        return decide(codes, self.rule_, groups if self.per_group else None)

    def predict_proba(self, codes: Codes, groups: Keys | None = None) -> Floats:
        """(n,) weighted agreement with each decision, in [0, 1]; not a probability of being right."""
        return self.predict(codes, groups).confidence


def _agreement(hist: Histogram, chosen: Codes, n_groups: int) -> Floats:
    answered = hist.codes != ABSTAIN
    agrees = answered & (hist.codes == chosen)
    result = np.empty((n_groups, hist.members))
    for j in range(hist.members):
        given = np.bincount(hist.groups, hist.counts * answered[:, j], n_groups)
        agreed = np.bincount(hist.groups, hist.counts * agrees[:, j], n_groups)
        # A member that never answered has no agreement to measure: 0.5 keeps its weight finite.
        result[:, j] = np.divide(agreed, given, out=np.full(n_groups, 0.5), where=given > 0)
    return result
