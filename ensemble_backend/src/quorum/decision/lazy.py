# SPDX-License-Identifier: Apache-2.0
"""Exact early stopping: ask members in turn, stop once no outstanding vote can change the decision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
from quorum.decision.parts import find_part

_NONE = (0.0, 0.0)
_NO_EVIDENCE = Bounds({}, _NONE)


class Lead(NamedTuple):
    """How the leading value stands against one other candidate.

    Attributes:
        ahead: Points of the leader less those of the other, by the votes at hand, with evidence of the text
            at its worst for the leader.
        reach: Points that the remaining votes can take from this at most, the part bias included.
    """

    ahead: float
    reach: float

    @property
    def margin(self) -> float:
        """What is left of the lead at worst."""
        return self.ahead - self.reach


class Standing(NamedTuple):
    """The leading value of a cell whose members have not all been asked.

    Attributes:
        leader: The value.
        leads: Over each other candidate.
        slack: Points that rounding may cost.
        wins_ties: Whether the vote that wins every tie names the leader.
    """

    leader: str
    leads: tuple[Lead, ...]
    slack: float
    wins_ties: bool

    @property
    def is_final(self) -> bool:
        """Whether no remaining vote can change the leader."""
        margin = min(lead.margin for lead in self.leads)
        return margin > self.slack or (margin >= 0.0 and self.wins_ties)


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
    named: Sequence[str] | None = None,
) -> bool:
    """Whether the decision is final, whatever the remaining members answer, and however sure they are.

    The leader must be ahead of every other candidate, and of a value not named yet (score 0, or ``na_bias``
    for "n/a"), by more than the sum of the highest weights that the remaining votes can have and of what the
    part bias can move. A lead of exactly that is enough when the vote that wins every tie names the leader.
    Evidence counts for the leader with the lowest that it can come to, for the others with the highest.

    Args:
        parameters: Weights and biases of the cell's attribute.
        ballots: Per member: (value, status), or None if it has not been asked yet.
        scores: As in :func:`quorum.decision.cell.decide_one`.
        evidence: As there.
        named: The only values that members can name, next to "n/a"; None: any.

    Returns:
        True if no answer can change the value any more; the confidence may still change.
    """
    if None not in ballots:
        return True
    found = standing(parameters, ballots, scores, evidence, named)
    return found is not None and found.is_final


def standing(
    parameters: Parameters,
    ballots: Sequence[Ballot | None],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
    named: Sequence[str] | None = None,
) -> Standing | None:
    """Compare the leader with every other candidate; None if no member has answered.

    Arguments as of :func:`is_settled`; at least one member has not been asked.
    """
    if parameters.scores:
        given = parameters.at(scores or [None] * len(ballots)).weights
        pairs = zip(ballots, given, parameters.highest(), strict=True)
        parameters = parameters.weighing(high if vote is None else weight for vote, weight, high in pairs)
    weights = parameters.weights
    support = tally(weights, ballots)
    if not support:
        return None
    if NOT_APPLICABLE in support:
        support[NOT_APPLICABLE] += parameters.na_bias
    open_weights = [weight for weight, ballot in zip(weights, ballots, strict=True) if ballot is None]
    evidence, bounds = evidence if parameters.text else None, _NO_EVIDENCE
    if evidence is not None:
        bounds = evidence.bounds(votes_of(ballots), len(ballots), len(open_weights))
    ranges = bounds.named | {NOT_APPLICABLE: bounds.not_applicable}
    low, high = ({v: total + ranges.get(v, _NONE)[end] for v, total in support.items()} for end in (0, 1))
    leader = max(low, key=low.__getitem__)
    # A value not named yet has no votes, "n/a" its bias.
    unnamed = 0.0 if evidence is None else HIGHEST
    # None stands for all values that no member has named yet.
    rivals: dict[str | None, float] = dict.fromkeys((None,) if named is None else named, unnamed)
    rivals |= {NOT_APPLICABLE: parameters.na_bias + bounds.not_applicable[1]} | high
    del rivals[leader]
    leads = tuple(
        Lead(low[leader] - best, _reach(parameters.part_bias, leader, rival, support, open_weights))
        for rival, best in rivals.items()
    )
    at_stake = math.fsum(map(abs, weights)) + abs(parameters.na_bias) + abs(parameters.part_bias)
    at_stake += sum(max(map(abs, span)) for span in ranges.values()) + unnamed
    voting = [j for j, ballot in enumerate(ballots) if ballot is None or ballot[1] == ANSWERED]
    heaviest = max(voting, key=lambda j: (weights[j], -j))
    wins_ties = ballots[heaviest] == (leader, ANSWERED)
    return Standing(leader, leads, RELATIVE_TIE * 4.0 * at_stake, wins_ties)


def _reach(
    bias: float, leader: str, rival: str | None, named: Iterable[str], open_weights: Sequence[float]
) -> float:
    """The most that the remaining votes can take from the lead over a rival (None: a value not named yet).

    All of them name the rival. The part bias helps it where it is added to a rival that is part of another
    value, or taken from a leader that is. Where no value at hand has that to do with it, one remaining vote
    must name such a value, and so cannot name the rival.
    """
    most = math.fsum(open_weights)
    if not bias or (bias > 0.0 and rival == NOT_APPLICABLE) or (bias < 0.0 and leader == NOT_APPLICABLE):
        return most
    part = rival if bias > 0.0 else leader
    if rival is None or part is None or _is_part(part, named):
        return most + abs(bias)
    return max(most, most - min(open_weights) + abs(bias))


def _is_part(value: str, others: Iterable[str]) -> bool:
    return any(other != NOT_APPLICABLE and find_part((value, other)) == 0 for other in others)
