# SPDX-License-Identifier: Apache-2.0
"""Report what the members of a deployment have spent of their budgets."""

from __future__ import annotations

from dataclasses import dataclass

from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.serving.budget import read_windows


@dataclass(frozen=True, slots=True)
class BudgetStatus(Record):
    """What a member has spent in this minute and on this day (UTC), calls in flight included.

    Attributes:
        minute_calls: Calls of this minute.
        day_calls: Calls of this day.
        minute_cost: In the currency of the prices; None: its budget is in calls alone.
        day_cost: Likewise, of this day.
        calls_per_minute: Its limits, as in ``deploy.yaml``; None: none.
    """

    minute_calls: int
    day_calls: int
    minute_cost: float | None = None
    day_cost: float | None = None
    calls_per_minute: int | None = None
    calls_per_day: int | None = None
    per_minute: float | None = None
    per_day: float | None = None


def budgets_of(deployment: Deployment) -> dict[str, BudgetStatus]:
    """By member with a budget, what is counted on this machine."""
    found = {}
    for member in deployment.members:
        if member.budget is None:
            continue
        minute, day = read_windows(deployment.root, member.name)
        costs = (minute.cost, day.cost) if member.budget.is_money else (None, None)
        found[member.name] = BudgetStatus(minute.calls, day.calls, *costs, **member.budget.model_dump())
    return found
