# SPDX-License-Identifier: Apache-2.0
"""The decision rule for one request, in plain Python: what the vote model runs per attribute.

The same rule over arrays is :func:`quorum.decision.arrays.decide`; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quorum.decision.parts import find_part

NOT_APPLICABLE = "n/a"
ANSWERED = 0
RELATIVE_TIE = 1e-12
"""Scores closer than this share of the weights at stake are a tie, so that summation order cannot decide."""

Ballot = tuple[str, int]
"""A member's value and its status; any status but 0 is an abstention."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What decides one cell.

    Attributes:
        weights: One weight per member, >= 0.
        na_bias: Added to the score of the value "n/a".
        none_bias: Score of the candidate "none of these"; None: the confidence is weighted agreement.
        part_bias: Added to the score of a value that is part of others, see
            :func:`quorum.decision.parts.find_part`.
    """

    weights: tuple[float, ...]
    na_bias: float = 0.0
    none_bias: float | None = None
    part_bias: float = 0.0

    @property
    def calibrated(self) -> bool:
        """Whether the confidence is a probability of being right, not a share of the weights."""
        return self.none_bias is not None


def decide_one(parameters: Parameters, ballots: Sequence[Ballot]) -> tuple[str, float]:
    """Decide one cell.

    The score of a named value is the sum of the weights of the members that named it, plus ``na_bias``
    for "n/a", plus ``part_bias`` for the value that is part of others. The highest score wins; a tie goes
    to the value of the heaviest member among those tied, then to the lowest member index. A value that all
    who answered agree on therefore always wins.

    Args:
        parameters: Weights and biases of the cell's attribute.
        ballots: Per member, in the order of the weights: (value, status).

    Returns:
        The value and the confidence in [0, 1]: the share of the weights of those who answered (agreement),
        or softmax over the candidates and "none of these" (calibrated). ``("", 0.0)`` if nobody answered.

    Raises:
        ValueError: Not as many ballots as weights.
    """
    named: dict[str, float] = {}
    for weight, (value, status) in zip(parameters.weights, ballots, strict=True):
        if status == ANSWERED:
            named[value] = named.get(value, 0.0) + weight
    if not named:
        return "", 0.0
    agreed = dict(named)
    if NOT_APPLICABLE in named:
        named[NOT_APPLICABLE] += parameters.na_bias
    if parameters.part_bias and (part := part_of(ballots)) >= 0:
        named[ballots[part][0]] += parameters.part_bias
    winner = _winner(parameters, ballots, named) if len(named) > 1 else next(iter(named))
    if parameters.none_bias is None:
        return winner, _agreement(agreed, winner, ballots)
    return winner, _softmax(named, winner, parameters.none_bias)


def part_of(ballots: Sequence[Ballot | None]) -> int:
    """The member whose value is part of others, or -1; see :func:`quorum.decision.parts.find_part`."""
    named = (b is not None and b[1] == ANSWERED and b[0] != NOT_APPLICABLE for b in ballots)
    return find_part([b[0] if b is not None and ok else None for b, ok in zip(ballots, named, strict=True)])


def _winner(parameters: Parameters, ballots: Sequence[Ballot], scores: dict[str, float]) -> str:
    at_stake = abs(parameters.na_bias) + abs(parameters.part_bias)
    for weight, (_, status) in zip(parameters.weights, ballots, strict=True):
        if status == ANSWERED:
            at_stake += abs(weight)
    bar = max(scores.values()) - RELATIVE_TIE * at_stake
    heaviest = -math.inf
    winner = ""
    for weight, (value, status) in zip(parameters.weights, ballots, strict=True):
        if status == ANSWERED and weight > heaviest and scores[value] >= bar:
            heaviest, winner = weight, value
    return winner


def _agreement(agreed: dict[str, float], winner: str, ballots: Sequence[Ballot]) -> float:
    total = sum(agreed.values())
    if total > 0.0:
        return min(1.0, max(0.0, agreed[winner] / total))
    said = [value for value, status in ballots if status == ANSWERED]
    return said.count(winner) / len(said)


def _softmax(scores: dict[str, float], winner: str, none_bias: float) -> float:
    top = max(max(scores.values()), none_bias)
    total = math.exp(none_bias - top) + sum(math.exp(score - top) for score in scores.values())
    return math.exp(scores[winner] - top) / total
