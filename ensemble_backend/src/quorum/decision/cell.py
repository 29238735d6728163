# SPDX-License-Identifier: Apache-2.0
"""Decide one cell by weights: the rule that the vote model applies to each attribute.

:func:`quorum.decision.arrays.decide` is the same rule over arrays; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from quorum.decision.evidence import TextEvidence, counted
from quorum.decision.parts import find_part
from quorum.decision.scores import level_of

NOT_APPLICABLE = "n/a"
ANSWERED = 0
RELATIVE_TIE = 1e-12
"""Scores closer than this share of the weights at stake tie, so that summation order cannot decide."""

Ballot = tuple[str, int]
"""A member's value and its status; any status but 0 is an abstention."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights and biases that decide one cell.

    Attributes:
        weights: One weight per member, >= 0.
        na_bias: Added to the score of the value "n/a".
        none_bias: Score of the candidate "none of these"; None: the confidence is weighted agreement.
        part_bias: Added to the score of a value that is part of others (:mod:`quorum.decision.parts`).
        scores: Per member and level (:mod:`quorum.decision.scores`), added to the weight of a vote with a
            score of that level; (): votes weigh the same whatever their scores.
        text: Whether the evidence of the product's text counts (:mod:`quorum.decision.evidence`).
        chance: Intercept and slope that turn the log odds of a set's confidence into those of the whole
            answer being right (:func:`quorum.decision.sets.chance_of`); (): not known.
    """

    weights: tuple[float, ...]
    na_bias: float = 0.0
    none_bias: float | None = None
    part_bias: float = 0.0
    scores: tuple[tuple[float, ...], ...] = ()
    text: bool = True
    chance: tuple[float, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether the confidence is a probability of being right, not a share of the weights."""
        return self.none_bias is not None

    def at(self, scores: Sequence[float | None]) -> Parameters:
        """The parameters of a cell whose votes have these scores: every weight is that of the vote."""
        if not self.scores:
            return self
        weights = [
            weight if (level := level_of(score)) < 0 else max(0.0, weight + offsets[level])
            for weight, offsets, score in zip(self.weights, self.scores, scores, strict=True)
        ]
        return self.weighing(weights)

    def weighing(self, weights: Iterable[float]) -> Parameters:
        """The same biases with these weights, whatever the scores of votes."""
        return msgspec.structs.replace(self, weights=tuple(weights), scores=())

    def highest(self) -> tuple[float, ...]:
        """Per member, the highest weight that a vote can have."""
        if not self.scores:
            return self.weights
        pairs = zip(self.weights, self.scores, strict=True)
        return tuple(max(0.0, weight, weight + max(offsets)) for weight, offsets in pairs)


def decide_one(
    parameters: Parameters,
    ballots: Sequence[Ballot],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
) -> tuple[str, float]:
    """Decide one cell.

    A vote weighs as much as its member; with ``parameters.scores`` and a score of its own, by the offset of
    that score's level more, at least 0. The total of a named value is the sum of the weights of its votes,
    plus ``na_bias`` for "n/a", plus ``part_bias`` for the value that is part of others, plus its evidence.
    The highest total wins; a tie goes to the tied value of the heaviest vote, then of the lowest member
    index. A value on which all answering members agree therefore always wins.

    Args:
        parameters: Weights and biases of the cell's attribute.
        ballots: Per member, in the order of the weights: (value, status).
        scores: Per member, log-probability of its value in nats, None where not known; (): for none.
        evidence: What the product's text says about values; None: votes alone decide.

    Returns:
        The value and the confidence in [0, 1]: its share of the answering members' weights (agreement), or
        softmax over the candidates and "none of these" (calibrated). ``("", 0.0)`` if all members abstained.

    Raises:
        ValueError: Not as many ballots as weights, or as many scores.
    """
    if scores:
        parameters = parameters.at(scores)
    support = tally(parameters.weights, ballots)
    if not support:
        return "", 0.0
    totals, at_stake = totals_of(parameters, ballots, support, evidence)
    winner = _winner(parameters, ballots, totals, at_stake) if len(totals) > 1 else next(iter(totals))
    if parameters.none_bias is None:
        return winner, _agreement(support, winner, ballots)
    return winner, _softmax(totals, winner, parameters.none_bias)


def share_out(
    parameters: Parameters,
    ballots: Sequence[Ballot],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
) -> dict[str | None, float]:
    """Share out what :func:`decide_one` is confident of: value -> share; None: that none of these is right.

    The shares add up to 1. Empty if all members abstained. Arguments as there.
    """
    if scores:
        parameters = parameters.at(scores)
    support = tally(parameters.weights, ballots)
    if not support:
        return {}
    if parameters.none_bias is None:
        return {value: _agreement(support, value, ballots) for value in support}
    totals, _ = totals_of(parameters, ballots, support, evidence)
    found: dict[str | None, float] = {
        value: _softmax(totals, value, parameters.none_bias) for value in totals
    }
    return found | {None: max(0.0, 1.0 - sum(found.values()))}


def totals_of(
    parameters: Parameters,
    ballots: Sequence[Ballot],
    support: Mapping[str, float],
    evidence: TextEvidence | None,
) -> tuple[dict[str, float], float]:
    """The total of each named value, and the sum of the absolute points of the text.

    Args:
        parameters: Weights and biases; scores are not looked at.
        ballots: Per member: (value, status).
        support: Of :func:`tally`.
        evidence: As in :func:`decide_one`.
    """
    totals = dict(support)
    if NOT_APPLICABLE in totals:
        totals[NOT_APPLICABLE] += parameters.na_bias
    if parameters.part_bias:
        named = [v if status == ANSWERED and v != NOT_APPLICABLE else None for v, status in ballots]
        if (part := find_part(named)) >= 0:
            totals[ballots[part][0]] += parameters.part_bias
    at_stake = 0.0
    if evidence is not None and parameters.text:
        votes = votes_of(ballots) if len(totals) > 1 else support
        for value, points in evidence.of(votes, len(ballots)).items():
            totals[value] += points
            at_stake += abs(points)
    return totals, at_stake


def tally(weights: Sequence[float], ballots: Sequence[Ballot | None]) -> dict[str, float]:
    """Sum of the weights behind each value that a member named; None for a member not asked yet."""
    support: dict[str, float] = {}
    for weight, ballot in zip(weights, ballots, strict=True):
        if ballot is not None and ballot[1] == ANSWERED:
            support[ballot[0]] = support.get(ballot[0], 0.0) + weight
    return support


def votes_of(ballots: Sequence[Ballot | None]) -> Mapping[str, float]:
    """Number of votes for each candidate; None for a member not asked yet."""
    return counted(ballot[0] for ballot in ballots if ballot is not None and ballot[1] == ANSWERED)


def _winner(
    parameters: Parameters, ballots: Sequence[Ballot], scores: dict[str, float], at_stake: float
) -> str:
    at_stake += abs(parameters.na_bias) + abs(parameters.part_bias)
    for weight, (_, status) in zip(parameters.weights, ballots, strict=True):
        if status == ANSWERED:
            at_stake += abs(weight)
    bar = max(scores.values()) - RELATIVE_TIE * at_stake
    heaviest, winner = -math.inf, ""
    for weight, (value, status) in zip(parameters.weights, ballots, strict=True):
        if status == ANSWERED and weight > heaviest and scores[value] >= bar:
            heaviest, winner = weight, value
    return winner


def _agreement(support: dict[str, float], winner: str, ballots: Sequence[Ballot]) -> float:
    total = sum(support.values())
    if total > 0.0:
        return min(1.0, max(0.0, support[winner] / total))
    values = [value for value, status in ballots if status == ANSWERED]
    return values.count(winner) / len(values)


def _softmax(scores: dict[str, float], winner: str, none_bias: float) -> float:
    top = max(max(scores.values()), none_bias)
    total = math.exp(none_bias - top) + sum(math.exp(score - top) for score in scores.values())
    return math.exp(scores[winner] - top) / total
