# SPDX-License-Identifier: Apache-2.0
"""Exact early stopping: ask members in turn, stop once no outstanding vote can change the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quorum.decision.cell import (
    ANSWERED,
    NOT_APPLICABLE,
    RELATIVE_TIE,
    Ballot,
    Parameters,
    tally,
    totals_of,
    votes_of,
)
from quorum.decision.evidence import HIGHEST, Bounds, TextEvidence

_NONE = (0.0, 0.0)
_NO_EVIDENCE = Bounds({}, _NONE)


class Lead(NamedTuple):
    """How the leading value stands against one other candidate.

    Attributes:
        ahead: Points of the leader less those of the other, without the remaining votes, with evidence of the
            text at its worst for the leader.
        reach: Points that the remaining votes can take from this at most.
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
        leads: Over each other candidate, by what the remaining members may do.
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

    The leader must be ahead of every other candidate, and of a value not named yet, by more than the highest
    weights that the remaining votes can have, with what part bias and evidence of the text can move. A lead
    of exactly that is enough when the vote that wins every tie names the leader.

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
    support = tally(parameters.weights, ballots)
    if not support:
        return None
    if not parameters.text:
        evidence = None
    at_hand = _AtHand(parameters, ballots, support, evidence)
    low, high = at_hand.ends()
    leader = max(low, key=low.__getitem__)
    # None stands for all values that no member has named yet: "n/a" has its bias, and these have no votes.
    rivals: dict[str | None, float] = dict.fromkeys((None,) if named is None else named, at_hand.unnamed)
    rivals.update(high)
    del rivals[leader]
    leads = [at_hand.lead_if_split(low[leader] - most, leader, rival) for rival, most in rivals.items()]
    for rival in rivals:
        if rival is None:
            leads.append(at_hand.lead_over_unnamed(low[leader], leader))
        else:
            leads.append(at_hand.lead_if_named(leader, rival))
    weights = parameters.weights
    voting = [j for j, ballot in enumerate(ballots) if ballot is None or ballot[1] == ANSWERED]
    heaviest = max(voting, key=lambda j: (weights[j], -j))
    wins_ties = ballots[heaviest] == (leader, ANSWERED)
    return Standing(leader, tuple(leads), RELATIVE_TIE * 4.0 * at_hand.at_stake, wins_ties)


class _AtHand:
    """The votes of some members on a cell, and what the others can add.

    These either all name the same rival of the leader, or at least one of them does not. In the first case
    nothing else is named, so that part bias and evidence are known, but for those of a value not named yet.
    In the second the rival lacks one weight at least.
    """

    def __init__(
        self,
        parameters: Parameters,
        ballots: Sequence[Ballot | None],
        support: Mapping[str, float],
        evidence: TextEvidence | None,
    ) -> None:
        self._parameters, self._ballots, self._evidence = parameters, ballots, evidence
        self._support = support
        pairs = zip(parameters.weights, ballots, strict=True)
        self._open = [weight for weight, ballot in pairs if ballot is None]
        self._all = math.fsum(map(abs, self._open))
        # Weights below 0, which no file has, help a rival most by votes for another value.
        self._spared = max(0.0, min(self._open))
        self._votes = votes_of(ballots)
        self._bounds = _NO_EVIDENCE
        if evidence is not None:
            self._bounds = evidence.bounds(self._votes, len(ballots), len(self._open))
        self.unnamed = 0.0 if evidence is None else HIGHEST

    @property
    def at_stake(self) -> float:
        """Sum of all that can count, of which rounding errors are a small share."""
        own = self._parameters
        ranges = (*self._bounds.named.values(), self._bounds.not_applicable)
        votes = math.fsum(map(abs, own.weights)) + abs(own.na_bias) + abs(own.part_bias)
        return votes + sum(max(map(abs, span)) for span in ranges) + self.unnamed

    def ends(self) -> tuple[dict[str, float], dict[str, float]]:
        """Lowest and highest points of each value, and of "n/a", by the votes at hand; no part bias."""
        points = {NOT_APPLICABLE: 0.0, **self._support}
        points[NOT_APPLICABLE] += self._parameters.na_bias
        ranges = self._bounds.named | {NOT_APPLICABLE: self._bounds.not_applicable}
        low, high = ({v: x + ranges.get(v, _NONE)[end] for v, x in points.items()} for end in (0, 1))
        return {value: low[value] for value in self._support}, high

    def lead_if_named(self, leader: str, rival: str) -> Lead:
        """Over a value, or "n/a", that all remaining members name."""
        ballots = [ballot or (rival, ANSWERED) for ballot in self._ballots]
        support = tally(self._parameters.weights, ballots)
        totals, _ = totals_of(self._parameters, ballots, support, self._evidence)
        return Lead(totals[leader] - totals[rival] + self._all, self._all)

    def lead_over_unnamed(self, low: float, leader: str) -> Lead:
        """Over a value that no member has named yet, and all remaining members name."""
        if self._evidence is not None and leader != NOT_APPLICABLE:
            open_members, size = len(self._open), len(self._ballots)
            own = self._evidence.lowest_by_one(leader, self._votes, size, open_members)
            low += own - self._bounds.named[leader][0]
        return Lead(low - self.unnamed, self._all + self._bias(leader, None))

    def lead_if_split(self, ahead: float, leader: str, rival: str | None) -> Lead:
        """Over a candidate that not all remaining members name."""
        return Lead(ahead, self._all - self._spared + self._bias(leader, rival))

    def _bias(self, leader: str, rival: str | None) -> float:
        """The most that the part bias can take from the lead: by helping the rival, or hurting the leader."""
        bias = self._parameters.part_bias
        return abs(bias) if (rival if bias > 0.0 else leader) != NOT_APPLICABLE else 0.0
