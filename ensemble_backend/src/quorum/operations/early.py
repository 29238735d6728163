# SPDX-License-Identifier: Apache-2.0
"""Learn, and judge, when asking may stop early, as a deployment asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.stopping import Stopping, with_stopping
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.costs import asking_costs
from quorum.evaluation.early import EarlyEvaluation, evaluate_early
from quorum.learning.by_kind import learn as learn_table
from quorum.learning.stopping import fewest_products, learn_stopping
from quorum.operations.learn_choice import catalogue_of
from quorum.repository.lazy_rows import call_costs, ranked_models
from quorum.votes import VotesTable
from quorum.votes.lazy import asked_of_all

NOT_BY_UPDATE = (
    "when asking may stop early is not learned from a state: members are asked until nothing can change the "
    "answer; learn from recorded votes, without --update, for a flip risk"
)
NOT_BY_STREAM = (
    "when asking may stop early is not learned in a stream: members are asked until nothing can change the "
    "answer; learn from votes on fewer products for a flip risk"
)


def is_lazy(deployment: Deployment | None, wanted: bool | None) -> bool:
    """Whether to learn about stopping early: as wanted, by default where the deployment asks in rows."""
    return bool(deployment and deployment.lazy) if wanted is None else wanted


def with_learned_stopping(
    table: VotesTable,
    weights: Weights,
    relearn: Callable[[VotesTable], Weights],
    kinds: AnswerKinds,
    deployment: Deployment | None,
    seed: int,
) -> tuple[Weights, tuple[str, ...]]:
    """The weights with what these votes say about stopping early, and remarks for people.

    Votes of a lazy channel say nothing of it: its answer is that of the members that it asked.
    """
    table = asked_of_all(table)
    rows = _rows(deployment) or (_ranked(deployment, weights) if deployment else None)
    found = learn_stopping(table, weights, relearn, kinds, rule_of(deployment), rows, seed)
    wanted = deployment.lazy.flip_risk if deployment and deployment.lazy else 0.0
    return with_stopping(weights, found), _remarks(found, wanted)


def _remarks(found: Stopping | None, wanted: float) -> tuple[str, ...]:
    """Say which flip risks the votes support, and whether that of the deployment is among them."""
    if found is None:
        takes = "single values of two members and two products, recorded without --lazy"
        return (f"stopping early: nothing learned, that takes {takes}",)
    cells = f"{found.cells} cells of {found.products} products"
    risks = ", ".join(f"{100 * risk:g} %" for risk, _ in found.limits) or "none"
    remarks = [f"stopping early: flip risks that {cells} support: {risks}"]
    if wanted and not found.limit(wanted):
        needed = fewest_products(wanted)
        why = f"it takes {needed} products and more" if found.products < needed else "too many answers change"
        remarks.append(
            f"lazy.flip_risk {wanted:g} is not supported ({why}): members are asked until nothing can change "
            "the answer"
        )
    return tuple(remarks)


def judge_early(
    table: VotesTable,
    deployment: Deployment | None,
    kinds: AnswerKinds,
    costs: Mapping[str, float] | None,
    folds: int,
    seed: int,
) -> EarlyEvaluation | None:
    """Measure what asking in rows would save with the weights that "auto" learns from these votes.

    Votes of a lazy channel are left out: members that it did not ask would count as asked in vain.
    ``costs`` are those of a member's call, None if they are not known: without ``lazy.rows`` members are
    asked by weight per cost, else by what the deployment says of it.
    """
    table = asked_of_all(table)
    catalogue = catalogue_of(deployment)
    asking: list[float] | None = None
    if costs:
        asking = asking_costs(table.members, costs)
    elif deployment:
        per_call = call_costs(deployment.members)
        asking = [per_call[name] for name in table.members]

    def learn(seen: VotesTable) -> Weights:
        return learn_table(seen, kinds=kinds, **catalogue)

    return evaluate_early(
        table, learn, kinds, rule_of(deployment), _rows(deployment), costs=asking, folds=folds, seed=seed
    )


def rule_of(deployment: Deployment | None) -> QuorumRule:
    """The quorum of a deployment; without one, one answer is enough."""
    vote = deployment.vote if deployment else None
    return QuorumRule(vote.min_members, vote.min_weight) if vote else QuorumRule()


def _ranked(deployment: Deployment, weights: Weights) -> list[list[str]]:
    """A row for each model, by weight per cost: without rows of its own the deployment asks in this order."""
    models = deployment.models()
    return [[member.name for member in models[name]] for name in ranked_models(deployment, weights)]


def _rows(deployment: Deployment | None) -> Sequence[Sequence[str]] | None:
    return deployment.lazy.rows if deployment and deployment.lazy else None
