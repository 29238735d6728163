# SPDX-License-Identifier: Apache-2.0
"""Apply a deployment to several repositories: all are checked before the first is changed."""

from __future__ import annotations

from quorum.rollout.apply import Applying
from quorum.rollout.lock import RolloutError
from quorum.rollout.plan_lines import ApplyPlan


def plan_all(servers: dict[str, Applying]) -> dict[str, ApplyPlan]:
    """The plan of each, by name; raises RolloutError where one would not take it, or weights would differ."""
    plans = {}
    for name, server in servers.items():
        try:
            plans[name] = server.plan()
        except Exception as error:
            if len(servers) == 1:
                raise
            raise RolloutError(f"nothing was changed, as {name} would not take it: {error}") from error
    changes_weights = any(plan.version is not None for plan in plans.values())
    if changes_weights and len({plan.answers for plan in plans.values()}) > 1:
        listed = "; ".join(f"{name}: {plan.answers}" for name, plan in plans.items())
        raise RolloutError(
            "nothing was changed, as the servers would answer with different weights, or with other numbers "
            f"of the same ({listed}); bring their repositories together first (`quorum sync`)"
        )
    return plans


def apply_all(servers: dict[str, Applying]) -> dict[str, ApplyPlan]:
    """Change each in turn, once all would take it; the first that fails is undone and stops the rest."""
    for server in servers.values():
        server.settle()
    plan_all(servers)
    plans: dict[str, ApplyPlan] = {}
    for name, server in servers.items():
        try:
            plans[name] = server.apply()
        except Exception as error:
            if not plans:
                raise
            untried = ", ".join(n for n in servers if n not in (*plans, name)) or "none"
            raise RolloutError(
                f"stopped at {name}: {error}. Done on {', '.join(plans)}; not tried on {untried}. Fix it and "
                "run `quorum apply` again, or put deploy.yaml back and apply that"
            ) from error
    return plans
