# SPDX-License-Identifier: Apache-2.0
"""Exact early stopping: ask members in turn, stop once no outstanding vote can change the decision."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quorum.decision.cell import (
    ANSWERED,
    NOT_APPLICABLE,
    RELATIVE_TIE,
    Ballot,
    Parameters,
    tally,
    votes_of,
)
from quorum.decision.evidence import HIGHEST, Bounds, TextEvidence

_NONE = (0.0, 0.0)
_NO_EVIDENCE = Bounds({}, _NONE)


def order(weights: Sequence[float], costs: Sequence[float] | None = None) -> list[int]:
    """Member indices by descending weight per cost of a call (None: all equal), ties to the lowest index.

    Raises:
        ValueError: A cost that is not above 0, or not one cost per weight.
    """
    prices = [1.0] * len(weights) if costs is None else list(costs)
    if len(prices) != len(weights) or not all(price > 0.0 for price in prices):
        raise ValueError(f"costs must be one number above 0 per member, not {prices}")
    return sorted(range(len(weights)), key=lambda j: (-abs(weights[j]) / prices[j], j))


def is_settled(
    parameters: Parameters,
    ballots: Sequence[Ballot | None],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
) -> bool:
    """Whether the decision is final, whatever the remaining members answer, and however sure they are.

    The leader must be ahead of every other candidate, and of a value not named yet (score 0, or ``na_bias``
    for "n/a"), by more than the sum of the highest weights that the remaining votes can have and of
    ``|part_bias|``. A lead of exactly that sum is enough when the vote that wins every tie names the leader.
    Evidence counts for the leader with the lowest that it can come to, for the others with the highest.

    Args:
        parameters: Weights and biases of the cell's attribute.
        ballots: Per member: (value, status), or None if it has not been asked yet.
        scores: As in :func:`quorum.decision.cell.decide_one`.
        evidence: As there.

    Returns:
        True if no answer can change the value any more; the confidence may still change.
    """
    if parameters.scores:
        given = parameters.at(scores or [None] * len(ballots)).weights
        pairs = zip(ballots, given, parameters.highest(), strict=True)
        parameters = parameters.weighing(high if vote is None else weight for vote, weight, high in pairs)
    weights = parameters.weights
    open_weights = [weight for weight, ballot in zip(weights, ballots, strict=True) if ballot is None]
    if not open_weights:
        return True
    support = tally(weights, ballots)
    if not support:
        return False
    if NOT_APPLICABLE in support:
        support[NOT_APPLICABLE] += parameters.na_bias
    evidence, bounds = evidence if parameters.text else None, _NO_EVIDENCE
    if evidence is not None:
        bounds = evidence.bounds(votes_of(ballots), len(ballots), len(open_weights))
    ranges = bounds.named | {NOT_APPLICABLE: bounds.not_applicable}
    low, high = ({v: total + ranges.get(v, _NONE)[end] for v, total in support.items()} for end in (0, 1))
    leader = max(low, key=low.__getitem__)
    # A value not named yet has no votes, "n/a" its bias.
    unnamed = 0.0 if evidence is None else HIGHEST
    rivals = {NOT_APPLICABLE: parameters.na_bias + bounds.not_applicable[1], **high, leader: unnamed}
    at_stake = math.fsum(map(abs, weights)) + abs(parameters.na_bias) + abs(parameters.part_bias)
    at_stake += sum(max(map(abs, span)) for span in ranges.values()) + unnamed
    slack = RELATIVE_TIE * 4.0 * at_stake
    # Which value is part of others is known only at the end: the bias may change the lead once, either way.
    open_sum = math.fsum(map(abs, open_weights)) + abs(parameters.part_bias)
    margin = low[leader] - max(rivals.values()) - open_sum
    if margin > slack:
        return True
    heaviest = max(range(len(ballots)), key=lambda j: (weights[j], -j))
    return margin >= 0.0 and ballots[heaviest] == (leader, ANSWERED)
