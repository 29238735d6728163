# SPDX-License-Identifier: Apache-2.0
"""What a change of versions or channels did, or would do."""

from __future__ import annotations

from dataclasses import dataclass

from quorum.decision.catalogue_change import UNCHANGED, CatalogueChange
from quorum.evaluation.guard import Comparison
from quorum.evaluation.retriever_guard import RetrieverComparison
from quorum_contract import VOTE


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a command.

    Attributes:
        action: ``publish``, ``canary``, ``promote``, ``rollback`` or ``retire``.
        version: The version that changed or was pinned, of ``model``.
        before: The channel's version before; ``None`` where no channel changes.
        already: Whether the state was as wanted and nothing was done.
        planned: Whether it was only checked (``dry_run``).
        model: The versioned model: ``quorum_vote`` (weights) or ``quorum_retriever``.
        comparison: The new version against the running one, for ``publish`` with held-out data.
        retired: Versions that a ``publish`` unloads, beyond ``rollout.keep_versions``.
        canary: Another version than stable's, that a share of the products goes on to get.
        canary_share: The share of the products that goes on to ask the canary, after a change of stable.
        unscored: Members that new weights weigh by their scores, which the deployment does not give.
        catalogue: What the deployment's catalogue changed since new weights were learned.
        kept: Attributes that a ``publish`` lets the running version decide as before.
        not_calibrated: Of these, those whose confidence is not calibrated though that of the weights is.
        answers: Whether the stable channel is pinned to what a ``publish`` found there already.
        first: Whether no version of the model was served before; its channels begin with this one.
    """

    action: str
    version: int
    before: int | None = None
    already: bool = False
    planned: bool = False
    model: str = VOTE
    comparison: Comparison | RetrieverComparison | None = None
    retired: tuple[int, ...] = ()
    canary: int | None = None
    canary_share: float = 0.0
    unscored: tuple[str, ...] = ()
    catalogue: CatalogueChange = UNCHANGED
    kept: tuple[str, ...] = ()
    not_calibrated: tuple[str, ...] = ()
    first: bool = False
    answers: bool = False
