# SPDX-License-Identifier: Apache-2.0
"""Say which scores and texts weights use, and where votes or a deployment do not give them."""

from __future__ import annotations

from collections.abc import Iterator, Set

import numpy as np

from quorum.decision.evidence import is_blank
from quorum.decision.patterns import ABSTAIN
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.votes import VotesTable

_FEW = 0.05
"""Share of votes without a score, or of cells without a text, that is no news."""


def weighed_by_scores(weights: Weights) -> list[str]:
    """Members of whose votes the weight depends on the score."""
    entries = (weights.default, *weights.attributes.values(), *weights.groups.values())
    return [
        name
        for member, name in enumerate(weights.members)
        if any(entry.scores and any(entry.scores[member]) for entry in entries)
    ]


def gives_no_scores(deployment: Deployment) -> set[str]:
    """Members whose scores are turned off (``options: {scores: false}``)."""
    return {member.name for member in deployment.members if not getattr(member.options, "scores", True)}


def missing_scores(deployment: Deployment, weights: Weights) -> list[str]:
    """Members that weights weigh by their scores, which the deployment does not give."""
    silent = gives_no_scores(deployment)
    return [name for name in weighed_by_scores(weights) if name in silent]


def unlike_served(
    table: VotesTable, weights: Weights, name: str, silent: Set[str] = frozenset()
) -> Iterator[str]:
    """Say where votes lack the scores or texts that weights decide by when they are served.

    Args:
        table: Recorded votes.
        weights: The weights.
        name: Of the weights, for people.
        silent: Members whose scores the deployment turns off.
    """
    yield from _without_scores(table, weights, name, silent)
    blank = sum(is_blank(cell.title) for cell in table.cells) / max(len(table), 1)
    if weights.evidence and blank > _FEW:
        yield (
            f"{blank:.0%} of the votes have no text (`title`), by which {name} weighs values: served, it "
            "decides otherwise; record votes again"
        )


def _without_scores(table: VotesTable, weights: Weights, name: str, silent: Set[str]) -> Iterator[str]:
    weighed = set(weighed_by_scores(weights))
    answered, unscored = table.codes != ABSTAIN, np.isnan(table.scores)
    totals = np.maximum(answered.sum(axis=0), 1)
    shares = dict(zip(table.members, ((answered & unscored).sum(axis=0) / totals).tolist(), strict=True))
    lost = [n for n in weights.members if n in weighed - silent and shares[n] > _FEW]
    if lost:
        named = ", ".join(f"{member} ({shares[member]:.0%})" for member in lost)
        yield (
            f"votes of {named} have no score, by which {name} weighs them: served, it decides "
            "otherwise; record votes again"
        )
    off = [member for member in weights.members if member in weighed & silent]
    alike = [member for member in off if shares[member] >= 1.0 - _FEW]
    for names, end in (
        (alike, "as in these votes: served, it decides the same"),
        ([n for n in off if n not in alike], "unlike these votes: served, it decides otherwise"),
    ):
        if names:
            yield (
                f"this deployment gives no scores of {', '.join(names)}, by which {name} weighs "
                f"votes, {end}; learn again"
            )
