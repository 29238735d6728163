# SPDX-License-Identifier: Apache-2.0
"""Weights for other members than those that they were learned for, where the answers are known to stay right.

A member that joins gets the weight 0: it is asked, its votes are recorded, and every answer and confidence is
as before. A member that leaves must have had the weight 0. Equal weights stay equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from quorum.decision.cell import Parameters
from quorum.decision.scores import LEVELS
from quorum.decision.stopping import SETTING
from quorum.decision.weights import Weights, WeightsError, equal_weights


def for_members(weights: Weights, members: Sequence[str]) -> Weights:
    """The weights for other members, or the same members in another order.

    Raises:
        WeightsError: A member that leaves has a say: weights without it must be learned.
    """
    if tuple(members) == weights.members:
        return weights
    if weights.method == "majority" and weights.default == equal_weights(weights.members).default:
        return equal_weights(members, weights.catalogue if not isinstance(weights.catalogue, str) else None)
    every = (weights.default, *weights.attributes.values(), *weights.groups.values())
    gone = [name for name in weights.members if name not in members]
    heard = [name for name in gone if any(_has_say(rule, weights.members.index(name)) for rule in every)]
    if heard:
        raise WeightsError(
            f"the weights count the votes of {', '.join(heard)}, which the deployment no longer has, so the "
            "answers without would be others and their confidence wrong: learn weights for the members "
            f"{', '.join(members)} and name the file with --weights (`quorum votes drop` leaves a member "
            "out of recorded votes)"
        )
    if not set(members) & set(weights.members):
        raise WeightsError(
            "no member of the deployment is one that the weights know: learn weights for "
            f"{', '.join(members)}, or start again from equal ones"
        )
    places = [weights.members.index(name) if name in weights.members else None for name in members]
    joined = [name for name in members if name not in weights.members]
    return replace(
        weights,
        members=tuple(members),
        default=_placed(weights.default, places),
        attributes={name: _placed(rule, places) for name, rule in weights.attributes.items()},
        groups={key: _placed(rule, places) for key, rule in weights.groups.items()},
        settings={key: value for key, value in weights.settings.items() if key != SETTING},
        provenance={
            **weights.provenance,
            "carried": {"from": weights.content_hash, "added": joined, "removed": gone},
        },
    )


def _has_say(rule: Parameters, place: int) -> bool:
    return rule.highest()[place] > 0.0


def _placed(rule: Parameters, places: Sequence[int | None]) -> Parameters:
    weights = tuple(0.0 if place is None else rule.weights[place] for place in places)
    silent = (0.0,) * LEVELS
    scores = tuple(silent if place is None else rule.scores[place] for place in places) if rule.scores else ()
    return msgspec.structs.replace(rule, weights=weights, scores=scores)
