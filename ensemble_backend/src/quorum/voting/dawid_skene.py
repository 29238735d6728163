# SPDX-License-Identifier: Apache-2.0
"""Dawid-Skene with full confusion matrices, for closed sets with values that are easily confused.

Its decision depends on which value is named, not only on who agrees, so it has no place among the weights of
the vote model; it tells, by BIC, whether an attribute needs more than one accuracy per member.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.voting.decide import Floats
from quorum.voting.em import OneCoin, posterior
from quorum.voting.histogram import histogram
from quorum.voting.patterns import ABSTAIN, Codes, check_codes

MIN_CELLS = 1000
_PRIOR = 10.0
_FLOOR = 1e-12


class DawidSkene:
    """Confusion matrices of the members and prevalence of the values, by EM without gold.

    ``P(member j says l | truth k) = theta_jkl``. Each row of a confusion matrix is pulled towards that of a
    one-coin member, with the strength of ten answers.

    Source: Dawid and Skene 1979, doi:10.2307/2346806.

    Attributes:
        prevalence_: (k,) share of each value.
        confusion_: (m, k, k) confusion matrices, rows the truth.
        log_likelihood_: Of the votes, after the last round.
        bic_: Schwarz's criterion of this model.
        one_coin_bic_: That of one accuracy per member with equally frequent values; lower is better.
        preferred_: Whether the confusion matrices are worth their number and there are 1000 cells to learn
            from.
    """

    prevalence_: Floats
    confusion_: Floats
    log_likelihood_: float
    bic_: float
    one_coin_bic_: float
    preferred_: bool

    def __init__(self, values: int, tolerance: float = 1e-6, max_rounds: int = 300) -> None:
        """Set up.

        Args:
            values: K, number of possible values.
            tolerance: Stop when the mean log-likelihood of a cell rises by less.
            max_rounds: Rounds of EM at most.
        """
        self.values = values
        self.tolerance = tolerance
        self.max_rounds = max_rounds

    def fit(self, codes: Codes) -> DawidSkene:
        """Learn from (n, m) codes that mean the same value in every row: -1 abstained, values 0..K-1.

        Raises:
            ValueError: A code beyond K - 1, or no vote at all.
            TooFewMembersError: Fewer than 3 members gave any vote.
        """
        rows = _distinct(codes, self.values)
        coin = OneCoin(float(self.values), per_group=False).fit(histogram(codes))
        shares, rest = posterior(rows.codes, np.nan_to_num(coin.accuracy_, nan=0.5), float(self.values))
        truth = _spread(rows.codes, shares, rest, self.values)
        anchor = _one_coin_confusion(np.nan_to_num(coin.accuracy_, nan=1.0 / self.values), self.values)
        cells, before = rows.counts.sum(), -np.inf
        for _ in range(self.max_rounds):
            self._maximise(rows, truth, anchor)
            truth, likelihood = self._expect(rows)
            self.log_likelihood_ = float(rows.counts @ likelihood)
            if self.log_likelihood_ - before < self.tolerance * cells:
                break
            before = self.log_likelihood_
        members, k = codes.shape[1], self.values
        self.bic_ = ((k - 1) + members * k * (k - 1)) * np.log(cells) - 2.0 * self.log_likelihood_
        uniform = DawidSkene(k)
        uniform.prevalence_, uniform.confusion_ = np.full(k, 1.0 / k), anchor
        self.one_coin_bic_ = float(members * np.log(cells) - 2.0 * (rows.counts @ uniform._expect(rows)[1]))
        self.preferred_ = bool(cells >= MIN_CELLS and self.bic_ < self.one_coin_bic_)
        return self

    def predict(self, codes: Codes) -> npt.NDArray[np.int64]:
        """(n,) most probable value; that of all who answered if they agree; -1 where nobody answered."""
        proba = self.predict_proba(codes)
        chosen = proba.argmax(axis=1)
        top = codes.max(axis=1)
        agreed = ((codes == top[:, None]) | (codes == ABSTAIN)).all(axis=1)
        return np.where(top == ABSTAIN, ABSTAIN, np.where(agreed, top, chosen))

    def predict_proba(self, codes: Codes) -> Floats:
        """(n, k) posterior of every value; overconfident when members repeat each other."""
        rows = _distinct(codes, self.values)
        return np.asarray(self._expect(rows)[0][rows.where])

    def _maximise(self, rows: _Rows, truth: Floats, anchor: Floats) -> None:
        weighted = truth * rows.counts[:, None]
        self.prevalence_ = (weighted.sum(axis=0) + 1.0) / (weighted.sum() + self.values)
        said = np.einsum("rk,rjl->jkl", weighted, rows.said, optimize=True) + _PRIOR * anchor
        self.confusion_ = said / said.sum(axis=2, keepdims=True)

    def _expect(self, rows: _Rows) -> tuple[Floats, Floats]:
        logs = np.log(np.maximum(self.confusion_, _FLOOR))
        scores = np.log(np.maximum(self.prevalence_, _FLOOR)) + np.einsum(
            "rjl,jkl->rk", rows.said, logs, optimize=True
        )
        top = scores.max(axis=1, keepdims=True)
        terms = np.exp(scores - top)
        total = terms.sum(axis=1)
        return terms / total[:, None], top[:, 0] + np.log(total)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Distinct rows of votes, how often each occurs, and which one each cell is; (r, m, k) who said what."""

    codes: Codes
    counts: Floats
    where: npt.NDArray[np.int64]
    said: Floats


def _distinct(codes: Codes, values: int) -> _Rows:
    check_codes(codes)
    if not len(codes) or codes.max() < 0 or codes.max() >= values or codes.min() < ABSTAIN:
        raise ValueError(f"codes must be -1 or in [0, {values}), with at least one vote")
    rows, where, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    said = (rows[:, :, None] == np.arange(values)).astype(np.float64)
    return _Rows(rows, counts.astype(np.float64), where.reshape(-1).astype(np.int64), said)


def _spread(codes: Codes, shares: Floats, rest: Floats, values: int) -> Floats:
    """Posterior per value from the posterior per member's answer."""
    truth = np.zeros((len(codes), values))
    for j in range(codes.shape[1]):
        given = codes[:, j] != ABSTAIN
        truth[given, codes[given, j]] = shares[given, j]
    unnamed = truth == 0.0
    truth += unnamed * (rest / np.maximum(unnamed.sum(axis=1), 1))[:, None]
    return np.asarray(truth / truth.sum(axis=1, keepdims=True))


def _one_coin_confusion(accuracy: Floats, values: int) -> Floats:
    wrong = (1.0 - accuracy) / (values - 1)
    return np.asarray(np.where(np.eye(values, dtype=np.bool_), accuracy[:, None, None], wrong[:, None, None]))
