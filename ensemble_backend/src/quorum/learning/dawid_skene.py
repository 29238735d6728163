# SPDX-License-Identifier: Apache-2.0
"""Dawid-Skene with full confusion matrices, for closed sets with values that are easily confused.

Its decision depends on which value is named, not only on which members agree, so ``weights.json`` cannot hold
it; its BIC shows whether an attribute needs more than one accuracy per member.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, leaders
from quorum.decision.histogram import compress, ranks
from quorum.decision.patterns import ABSTAIN, Codes, Keys, check_codes, narrowest, spread
from quorum.learning.em import OneCoin, posterior

MIN_CELLS = 1000
_PRIOR = 10.0
_FLOOR = 1e-12
_TOLERANCE = 1e-6
_MAX_ROUNDS = 300
_BLOCK = 1 << 14
# Tables of scores by the votes of a few members at once, as large as the fast caches hold.
_TOGETHER = 4096


@dataclass(eq=False, repr=False)
class DawidSkene:
    """Confusion matrices of the members and prevalence of the values, by EM without gold.

    ``P(member j names l | truth k) = theta_jkl``. Each row of a confusion matrix is shrunk towards that of a
    one-coin member, with the strength of ten answers.

    Source: Dawid and Skene 1979, doi:10.2307/2346806.

    Attributes:
        values: K, number of possible values.
        prevalence_: (k,) share of each value.
        confusion_: (m, k, k) confusion matrices, rows the truth.
        log_likelihood_: Of the votes, after the last round.
        bic_: Bayesian information criterion (Schwarz) of this model; lower is better.
        one_coin_bic_: That of one accuracy per member with equally frequent values.
        preferred_: Whether ``bic_`` is the lower one and there are at least 1000 cells.
    """

    values: int
    prevalence_: Floats = field(init=False)
    confusion_: Floats = field(init=False)
    log_likelihood_: float = field(init=False)
    bic_: float = field(init=False)
    one_coin_bic_: float = field(init=False)
    preferred_: bool = field(init=False)

    def fit(self, codes: Codes) -> DawidSkene:
        """Learn from (n, m) codes that mean the same value in every row: -1 abstained, values 0..K-1.

        Raises:
            ValueError: A code beyond K - 1, or no vote at all.
            TooFewMembersError: Fewer than 3 members gave any vote.
        """
        self._fit(_distinct(codes, self.values))
        return self

    def predict(self, codes: Codes) -> npt.NDArray[np.int64]:
        """(n,) most probable value; the unanimous one where there is one; -1 where all members abstained."""
        rows = _distinct(codes, self.values)
        return _decide(rows, self._expect(rows)[0])

    def fit_predict(self, codes: Codes) -> npt.NDArray[np.int64]:
        """:meth:`fit` and :meth:`predict` on the same cells, finding their distinct rows once."""
        rows = _distinct(codes, self.values)
        return _decide(rows, self._fit(rows))

    def predict_proba(self, codes: Codes) -> Floats:
        """(n, k) posterior of every value; overconfident when members repeat each other."""
        rows = _distinct(codes, self.values)
        return np.asarray(self._expect(rows)[0].T[rows.where])

    def _fit(self, rows: _Rows) -> Floats:
        """Learn and return the (k, r) posterior of every value."""
        cells, members, k = rows.counts.sum(), rows.codes.shape[1], self.values
        # One-coin EM depends on the pattern alone, and there are few patterns.
        hist, where = compress(rows.codes)
        hist = replace(hist, counts=np.bincount(where, rows.counts, len(hist.counts)).astype(np.float64))
        coin = OneCoin(float(k), per_group=False).fit(hist)
        accuracy = np.nan_to_num(coin.accuracy_, nan=1.0 / k)
        shares, rest, likelihood = posterior(hist.codes, accuracy, float(k))
        self.one_coin_bic_ = float(members * np.log(cells) - 2.0 * (hist.counts @ likelihood))
        truth = _spread(rows.codes, _per_value(hist.codes, shares, rest, k), where, k)
        anchor, before = _one_coin_confusion(accuracy, k), -np.inf
        for _ in range(_MAX_ROUNDS):
            self._maximise(rows, truth, anchor)
            truth, likelihood = self._expect(rows)
            self.log_likelihood_ = float(rows.counts @ likelihood)
            if self.log_likelihood_ - before < _TOLERANCE * cells:
                break
            before = self.log_likelihood_
        self.bic_ = ((k - 1) + members * k * (k - 1)) * np.log(cells) - 2.0 * self.log_likelihood_
        self.preferred_ = bool(cells >= MIN_CELLS and self.bic_ < self.one_coin_bic_)
        return truth

    def _maximise(self, rows: _Rows, truth: Floats, anchor: Floats) -> None:
        weighted = truth * rows.counts
        self.prevalence_ = (weighted.sum(axis=1) + 1.0) / (weighted.sum() + self.values)
        votes = _PRIOR * anchor
        for members, index in rows.parts:
            shape = (self.values + 1,) * len(members)
            size = int(np.prod(shape))
            sums = np.stack([np.bincount(index, row, size) for row in weighted]).reshape(self.values, *shape)
            for at, j in enumerate(members):
                others = tuple(axis + 1 for axis in range(len(members)) if axis != at)
                votes[j] += sums.sum(axis=others)[:, 1:]
        self.confusion_ = votes / votes.sum(axis=2, keepdims=True)

    def _expect(self, rows: _Rows) -> tuple[Floats, Floats]:
        """E step: (k, r) posterior of every value and (r,) log-likelihood of each distinct row."""
        logs = np.log(np.maximum(self.confusion_, _FLOOR))
        # An abstention, code -1, adds nothing under any truth.
        logs = np.concatenate([np.zeros((*logs.shape[:2], 1)), logs], axis=2)
        prior = np.log(np.maximum(self.prevalence_, _FLOOR))
        scores = np.repeat(prior[:, None], len(rows.codes), axis=1)
        for members, index in rows.parts:
            table = logs[members[0]]
            for j in members[1:]:
                table = (table[:, :, None] + logs[j][:, None, :]).reshape(self.values, -1)
            for score, of_truth in zip(scores, table, strict=True):
                score += np.take(of_truth, index, mode="clip")
        top = scores.max(axis=0)
        np.exp(np.subtract(scores, top, out=scores), out=scores)
        total = scores.sum(axis=0)
        return np.divide(scores, total, out=scores), top + np.log(total)


def _decide(rows: _Rows, truth: Floats) -> npt.NDArray[np.int64]:
    """(n,) value of each cell by the (k, r) posterior of its row; unanimous cells are never overruled."""
    # One pass per value: argmax along the first axis would stride over the whole table.
    best, chosen = truth[0].copy(), np.zeros(len(rows.codes), np.int64)
    for value, shares in enumerate(truth[1:], start=1):
        np.copyto(chosen, value, where=shares > best)
        np.maximum(best, shares, out=best)
    top = rows.codes.max(axis=1)
    agreed = ((rows.codes == top[:, None]) | (rows.codes == ABSTAIN)).all(axis=1)
    values = np.where(agreed, top, chosen)
    return spread(values.astype(np.int64), rows.where)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Distinct rows of votes with their counts, and the row of each cell.

    Attributes:
        parts: Blocks of members, each with the (r,) index of a row's votes among all combinations of theirs.
    """

    codes: Codes
    counts: Floats
    where: Keys
    parts: list[tuple[range, npt.NDArray[np.intp]]]


def _distinct(codes: Codes, values: int) -> _Rows:
    check_codes(codes)
    if not len(codes) or not 0 <= codes.max() < values or codes.min() < ABSTAIN:
        raise ValueError(f"codes must be -1 or in [0, {values}), with at least one vote")
    members, radix = codes.shape[1], values + 1
    if radix**members < 2**63:
        unique, where, counts = ranks(_packed(codes, radix), radix**members)
        rows: Codes = np.empty((len(unique), members), narrowest(values))
        rest = unique.astype(narrowest(radix**members))
        for j in range(members - 1, -1, -1):
            rest, rows[:, j] = np.divmod(rest, radix)
        rows += ABSTAIN
    else:
        rows, where, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    together = max(1, int(np.log(_TOGETHER) / np.log(radix)))
    blocks = [range(j, min(j + together, members)) for j in range(0, members, together)]
    parts = [(block, _packed(rows[:, block.start : block.stop], radix).astype(np.intp)) for block in blocks]
    return _Rows(rows, counts.astype(np.float64), where.reshape(-1), parts)


def _packed(codes: Codes, radix: int) -> Keys:
    """(n,) the codes of each row as the digits of one number, the first member's the highest."""
    packed = np.empty(len(codes), narrowest(radix ** codes.shape[1]))
    for start in range(0, len(codes), _BLOCK):
        block = packed[start : start + _BLOCK]
        columns = np.ascontiguousarray(codes[start : start + _BLOCK].T, dtype=packed.dtype)
        np.subtract(columns, ABSTAIN, out=columns)
        np.copyto(block, columns[0])
        for column in columns[1:]:
            np.multiply(block, radix, out=block)
            np.add(block, column, out=block)
    return packed


def _per_value(codes: Codes, shares: Floats, rest: Floats, values: int) -> tuple[Floats, Floats]:
    """(p, m) share of each member's answer and (p,) share of each value that no member named; sum 1."""
    first = leaders(codes)
    unnamed = np.maximum(values - first.sum(axis=1), 0)
    rest = np.where(unnamed, rest, 0.0)
    total = np.where(first, shares, 0.0).sum(axis=1) + rest
    return shares / total[:, None], rest / total / np.maximum(unnamed, 1)


def _spread(codes: Codes, each: tuple[Floats, Floats], where: Keys, values: int) -> Floats:
    """(k, r) posterior per value from those of :func:`_per_value`; (r,) ``where`` is a row's pattern."""
    shares, rest = each
    # Abstentions, code -1, go to an extra row, which is dropped.
    truth = np.empty((values + 1, len(codes)))
    truth[:] = spread(rest, where)
    every = np.arange(len(codes))
    for j in range(codes.shape[1]):
        truth[codes[:, j], every] = spread(shares[:, j], where)
    return truth[:-1]


def _one_coin_confusion(accuracy: Floats, values: int) -> Floats:
    wrong = (1.0 - accuracy) / (values - 1)
    return np.asarray(np.where(np.eye(values, dtype=np.bool_), accuracy[:, None, None], wrong[:, None, None]))
