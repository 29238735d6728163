# SPDX-License-Identifier: Apache-2.0
"""Tell which members weights weigh by their scores, and which scores a deployment does not give."""

from __future__ import annotations

from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment


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
