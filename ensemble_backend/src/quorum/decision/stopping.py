# SPDX-License-Identifier: Apache-2.0
"""Stop asking before an answer is settled for certain, by the learned chance that it still changes.

What was learned stands in the settings of weights (:data:`SETTING`), so a quorum that does not know of it
reads them too. Without it members are asked until nothing can change the answer any more
(:mod:`quorum.decision.settle`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.cell import Ballot
from quorum.decision.lazy import Standing
from quorum.decision.sets import chance_of, log_odds

if TYPE_CHECKING:
    from quorum.decision.weights import Weights

SETTING = "lazy"
RISKS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Flip risks that limits are learned for; one between them has the limit of the next lower one."""
FEATURES = ("always", "lead", "confidence", "open")
"""1; the least lead over another candidate, as a share of what the remaining votes can take from it, at least
-1; log odds of the confidence of the votes at hand, quartered; share of the members not asked."""


class Stopping(msgspec.Struct, frozen=True):
    """What was learned about answers of some of the members.

    Attributes:
        change: Coefficients of :data:`FEATURES`: log odds that the answer becomes another one.
        limits: Pairs of a flip risk and the highest chance of a change with which asking stops; only risks
            that the votes could show to be kept.
        lines: Number of members asked -> the line from the confidence of their votes to that of all votes in
            the same value (:func:`quorum.decision.sets.chance_of`).
        attributes: Attributes that it was learned from. Others are asked until nothing can change.
        cells: Number of cells that it was learned from.
        products: Number of their products.
    """

    change: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]
    lines: Mapping[str, tuple[float, float]]
    attributes: tuple[str, ...]
    cells: int
    products: int

    def limit(self, risk: float) -> float:
        """The highest chance of a change with which asking may stop, at a flip risk; 0: none."""
        return max((limit for known, limit in self.limits if known <= risk * (1.0 + 1e-9)), default=0.0)

    def at_risk(self, risk: float) -> EarlyStop | None:
        """When to stop at a flip risk; None: only where nothing can change the answer."""
        limit = self.limit(risk)
        return EarlyStop(self.change, limit) if limit > 0.0 else None

    def confidence(self, asked: int, confidence: float) -> float:
        """The confidence of the votes of some members on the scale of all members' votes."""
        return chance_of(confidence, self.lines.get(str(asked), ()))


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """When to stop asking about a cell whose answer may still change.

    Attributes:
        change: See :class:`Stopping`.
        limit: The highest chance of a change.
    """

    change: Sequence[float]
    limit: float

    def allows(self, standing: Standing, confidence: float, ballots: Sequence[Ballot | None]) -> bool:
        """Whether the chance of a change is low enough; arguments as of :func:`features_of`."""
        return chance_of_change(self.change, features_of(standing, confidence, ballots)) <= self.limit


def early_stop(weights: Weights, attribute: str, risk: float) -> EarlyStop | None:
    """When to stop early on an attribute at a flip risk; None: only where nothing can change the answer."""
    found = stopping_of(weights, attribute)
    return found.at_risk(risk) if found else None


def stopping_of(weights: Weights, attribute: str) -> Stopping | None:
    """What weights know about stopping early on an attribute; None: nothing."""
    found = recorded_stopping(weights.settings)
    name = OUTSIDE if weights.is_outside(attribute) else attribute
    return found if found and name in found.attributes else None


def confidence_at_hand(stopping: Stopping | None, asked: int, members: int, confidence: float) -> float:
    """The confidence of a decision in which some members were not asked.

    Args:
        stopping: Of :func:`stopping_of`; None: the confidence stays.
        asked: Number of members that were asked, also of those that had nothing to answer from.
        members: Number of members.
        confidence: Of the decision by the votes of those that were asked.
    """
    if stopping is None or asked == members:
        return confidence
    return stopping.confidence(asked, confidence)


def recorded_stopping(settings: Mapping[str, Any]) -> Stopping | None:
    """What settings of weights record; None if that is nothing, or cannot be read."""
    if SETTING not in settings:
        return None
    try:
        found = msgspec.convert(settings[SETTING], Stopping)
    except msgspec.ValidationError:
        return None
    numbers = [*found.change, *(x for pair in (*found.limits, *found.lines.values()) for x in pair)]
    return found if len(found.change) == len(FEATURES) and all(map(math.isfinite, numbers)) else None


def with_stopping(weights: Weights, stopping: Stopping | None) -> Weights:
    """The weights with what was learned about stopping; None: without."""
    settings = {name: value for name, value in weights.settings.items() if name != SETTING}
    if stopping is not None:
        settings[SETTING] = _plain(stopping)
    return replace(weights, settings=settings)


def without_attributes(settings: Mapping[str, Any], is_other: Callable[[str], bool]) -> Mapping[str, Any]:
    """Settings of weights by which attributes that are decided in another way now stop only for certain."""
    found = recorded_stopping(settings)
    if found is None or not any(map(is_other, found.attributes)):
        return settings
    kept = tuple(name for name in found.attributes if not is_other(name))
    return {**settings, SETTING: _plain(msgspec.structs.replace(found, attributes=kept))}


def features_of(standing: Standing, confidence: float, ballots: Sequence[Ballot | None]) -> tuple[float, ...]:
    """The numbers :data:`FEATURES` of a cell.

    Args:
        standing: Of the leading value, which is not final.
        confidence: Of the votes at hand, all other members counting as abstentions.
        ballots: Per member, None if it has not been asked yet.
    """
    least = min(_share(lead.ahead, lead.reach) for lead in standing.leads)
    to_ask = sum(ballot is None for ballot in ballots) / len(ballots)
    return 1.0, least, log_odds(confidence) / 4.0, to_ask


def chance_of_change(change: Sequence[float], features: Sequence[float]) -> float:
    """Chance in [0, 1] that an answer becomes another one, by the coefficients of its features."""
    odds = sum(weight * number for weight, number in zip(change, features, strict=True))
    return 1.0 / (1.0 + math.exp(-min(max(odds, -500.0), 500.0)))


def _plain(stopping: Stopping) -> Any:
    # As it is read again: JSON has lists, no tuples.
    return msgspec.json.decode(msgspec.json.encode(stopping))


def _share(ahead: float, reach: float) -> float:
    if reach <= 0.0:
        return math.copysign(1.0, ahead)
    return min(max(ahead / reach, -1.0), 1.0)
