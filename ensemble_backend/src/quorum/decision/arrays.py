# SPDX-License-Identifier: Apache-2.0
"""Apply the decision rule to arrays of cells; the same rule as :func:`quorum.decision.cell.decide_one`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import RELATIVE_TIE
from quorum.decision.histogram import Floats as Floats
from quorum.decision.histogram import compress
from quorum.decision.patterns import ABSTAIN, NA, Codes, Keys, spread
from quorum.decision.scores import NO_SCORE


@dataclass(frozen=True, slots=True)
class Rule:
    """Weights and biases that decide the cells of each group.

    Attributes:
        weights: (g, m) weights.
        na_bias: (g,) added to the score of "n/a".
        none_bias: (g,) score of "none of these"; None: the confidence is weighted agreement.
        part_bias: (g,) added to the score of a value that is part of others; None: no such bias.
        scores: (g, m, levels) added to the weight of a vote with a score of that level; None: scores do not
            count.
    """

    weights: Floats
    na_bias: Floats
    none_bias: Floats | None = None
    part_bias: Floats | None = None
    scores: Floats | None = None

    def of_votes(self, groups: Keys, levels: Codes | None) -> Floats:
        """(n, m) weight of each vote, by its (n, m) score level, -1 for none; None: no vote has a score."""
        weights = self.weights[groups]
        if self.scores is None or levels is None:
            return weights
        members = np.arange(weights.shape[1])
        offsets = self.scores[groups[:, None], members, np.maximum(levels, 0)]
        return np.where(levels == NO_SCORE, weights, np.maximum(weights + offsets, 0.0))


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome per cell.

    Attributes:
        winner: (n,) index of the heaviest member that named the winning value; -1: all members abstained.
        confidence: (n,) in [0, 1]; 0 where all members abstained.
    """

    winner: npt.NDArray[np.int8]
    confidence: Floats

    def spread(self, where: Keys) -> Decision:
        """Expand decisions per row (pattern) to cells; ``where`` (n,) is the row of each cell."""
        return Decision(spread(self.winner, where), spread(self.confidence, where))


def equal_rule(members: int) -> Rule:
    """Weight 1 for each member, in one group."""
    return Rule(np.ones((1, members)), np.zeros(1))


def decide(
    codes: Codes,
    rule: Rule,
    groups: Keys | None = None,
    parts: Codes | None = None,
    levels: Codes | None = None,
    evidence: Floats | None = None,
) -> Decision:
    """Decide many cells; the work is per distinct pattern, and per cell where scores or evidence count.

    Args:
        codes: (n, m) codes, see :mod:`quorum.decision.patterns`.
        rule: Weights and biases per group.
        groups: (n,) row of the rule for each cell; None: row 0.
        parts: (n,) code of the value that is part of others, -1 where none is; None: -1 everywhere.
        levels: (n, m) level of each vote's score, -1 where it has none; None: no vote has a score.
        evidence: (n, m) evidence of the value that each member named (:mod:`quorum.decision.evidence`), 0
            for "n/a" and abstentions; None: votes alone decide.

    Raises:
        ValueError: Not as many members as weights, or a group without a row in the rule.
    """
    m = codes.shape[1]
    if rule.weights.shape[1] != m:
        raise ValueError(f"{m} members in the votes, {rule.weights.shape[1]} in the weights")
    if groups is not None and len(groups) and not 0 <= groups.min() <= groups.max() < len(rule.weights):
        raise ValueError(f"group ids must be in [0, {len(rule.weights)}), not {groups.min()}..{groups.max()}")
    if rule.part_bias is None or not rule.part_bias.any():
        parts = None
    if evidence is not None or (rule.scores is not None and levels is not None):
        each = np.zeros(len(codes), np.int32) if groups is None else groups
        return decide_rows(codes, rule, each, parts, levels, evidence)
    hist, where = compress(codes if parts is None else np.column_stack([codes, parts]), groups)
    part = None if parts is None else hist.codes[:, m]
    return decide_rows(hist.codes[:, :m], rule, hist.groups, part).spread(where)


def decide_rows(
    codes: Codes,
    rule: Rule,
    groups: Keys,
    parts: Codes | None = None,
    levels: Codes | None = None,
    evidence: Floats | None = None,
) -> Decision:
    """Decide each row: :func:`decide` without compression, for rows that are distinct patterns already."""
    weights, answered = rule.of_votes(groups, levels), codes != ABSTAIN
    na_bias = rule.na_bias[groups]
    scores = block_scores(codes, weights, na_bias)
    at_stake = np.abs(na_bias)
    if rule.part_bias is not None and parts is not None:
        part_bias = rule.part_bias[groups]
        scores += np.where((codes == parts[:, None]) & (parts[:, None] > NA), part_bias[:, None], 0.0)
        at_stake = at_stake + np.abs(part_bias)
    if evidence is not None:
        scores += evidence
        at_stake = at_stake + np.where(leaders(codes), np.abs(evidence), 0.0).sum(axis=1)
    for j in range(codes.shape[1]):
        at_stake = at_stake + np.where(answered[:, j], np.abs(weights[:, j]), 0.0)
    bar = scores.max(axis=1) - RELATIVE_TIE * at_stake
    winner = np.where(scores >= bar[:, None], np.where(answered, weights, -np.inf), -np.inf).argmax(axis=1)
    if rule.none_bias is None:
        shares = agreement(codes, weights)
    else:
        shares = softmax(codes, scores, rule.none_bias[groups])
    confidence = np.take_along_axis(shares, winner[:, None], axis=1)[:, 0]
    decided = answered.any(axis=1)
    return Decision(np.where(decided, winner, -1).astype(np.int8), np.where(decided, confidence, 0.0))


def block_scores(codes: Codes, weights: Floats, na_bias: Floats) -> Floats:
    """(r, m) score of the candidate that each member named; -inf where it abstained.

    Summed in member order, so that the result equals the scalar rule bit for bit.
    """
    scores = np.zeros(codes.shape)
    for k in range(codes.shape[1]):
        scores += np.where(codes == codes[:, k : k + 1], weights[:, k : k + 1], 0.0)
    scores += np.where(codes == NA, na_bias[:, None], 0.0)
    return np.where(codes == ABSTAIN, -np.inf, scores)


def agreeing(codes: Codes) -> npt.NDArray[np.bool_]:
    """(r, m, m) whether two members named the same candidate."""
    return np.asarray((codes[:, :, None] == codes[:, None, :]) & (codes != ABSTAIN)[:, :, None])


def leaders(codes: Codes) -> npt.NDArray[np.bool_]:
    """(r, m) whether the member is the first that named its candidate: one entry per candidate."""
    first: npt.NDArray[np.bool_] = codes != ABSTAIN
    for k in range(1, codes.shape[1]):
        first[:, k] &= (codes[:, :k] != codes[:, k : k + 1]).all(axis=1)
    return first


def agreement(codes: Codes, weights: Floats) -> Floats:
    """(r, m) share of the answering members' weights that supports each member's candidate."""
    answered = codes != ABSTAIN
    counted = np.where(answered, weights, 0.0)
    # If all these weights are 0, each answering member counts 1.
    counted = np.where(counted.sum(axis=1, keepdims=True) > 0.0, counted, answered)
    support = block_scores(codes, counted, np.zeros(len(codes)))
    total = counted.sum(axis=1, keepdims=True)
    shares = np.divide(support, total, out=np.zeros_like(counted), where=answered & (total > 0))
    return np.clip(shares, 0.0, 1.0)


def softmax(codes: Codes, scores: Floats, none_bias: Floats) -> Floats:
    """(r, m) probability of each member's candidate among the candidates and "none of these"."""
    top = np.maximum(scores.max(axis=1), none_bias)[:, None]
    terms = np.exp(scores - top)
    total = np.where(leaders(codes), terms, 0.0).sum(axis=1) + np.exp(none_bias - top[:, 0])
    return np.asarray(terms / total[:, None], np.float64)
