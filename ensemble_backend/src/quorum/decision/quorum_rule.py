# SPDX-License-Identifier: Apache-2.0
"""Withhold a decision that too few members stand behind: the deployment's quorum.

A member has answered an attribute when it named a value or "n/a"; whatever the reason of an abstention, it
does not count. The share of the weight that has answered is::

    sum of highest(j) over the members j that answered / sum of highest(j) over all members j

``highest(j)`` is the highest weight that a vote of member j can have in this cell
(:meth:`quorum.decision.cell.Parameters.highest`): its weight, where scores do not count; else its weight with
the offset of the level of scores that adds most. It is known without the scores of members that did not
answer, so the share says who took part, not how sure they were. Biases and the evidence of the text are of no
member, and do not count. If all of these weights are 0, each member counts 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quorum.decision.cell import RELATIVE_TIE, Parameters


@dataclass(frozen=True, slots=True)
class QuorumRule:
    """How many members must have answered an attribute for its value to be given.

    Attributes:
        min_members: Number of members, at least 1.
        min_weight: Share in [0, 1] of the weight that the rule gives to all members in the cell.
    """

    min_members: int = 1
    min_weight: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether one answer of any member is enough."""
        return self.min_members <= 1 and self.min_weight <= 0.0

    def is_met(self, parameters: Parameters, answered: Sequence[bool]) -> bool:
        """Whether the members that answered a cell are enough; ``answered`` in the order of the weights."""
        if sum(answered) < self.min_members:
            return False
        return self.min_weight <= 0.0 or (
            weight_share(parameters, answered) >= self.min_weight * (1.0 - RELATIVE_TIE)
        )


def weight_share(parameters: Parameters, answered: Sequence[bool]) -> float:
    """Share of the weight of all members that belongs to those that answered, in [0, 1]."""
    weights: Sequence[float] = parameters.highest()
    if not any(weights):
        weights = [1.0] * len(weights)
    present = math.fsum(weight for weight, given in zip(weights, answered, strict=True) if given)
    return present / math.fsum(weights)
