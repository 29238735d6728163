# SPDX-License-Identifier: Apache-2.0
"""What ``quorum status`` shows of budgets."""

from __future__ import annotations

from pathlib import Path

from support.deployment import write_deployment

import quorum
from quorum.cli.serve import _budgets
from quorum.operations.budgets import budgets_of
from quorum.serving.budget import Budget
from quorum_contract import Price, Spent


def test_members_with_budgets_are_shown_with_what_they_spent(tmp_path: Path) -> None:
    limits = {"per_day": 5.0, "calls_per_minute": 600}
    members = {
        "free": {},
        "paid": {"price": {"per_call": 0.5}, "budget": limits},
        "counted": {"budget": {"calls_per_day": 9}},
    }
    spec = quorum.load_deployment(write_deployment(tmp_path, members))
    budget = Budget("paid", limits, Price(per_call=0.5), spec.root)
    for _ in range(3):
        hold = budget.take()
        assert hold
        budget.settle(hold, Spent(1))
    found = budgets_of(spec)
    report = quorum.ServerStatus("", None, None, 0.0, {}, {}, {}, budgets=found)
    (table,) = _budgets(report, "EUR")
    names, _, today = (list(column.cells) for column in table.columns)
    assert names == ["paid", "counted"]
    assert today == ["3 calls, 1.50 of 5.00 EUR", "0 of 9 calls"]
    assert report.to_json()["budgets"]["counted"]["calls_per_day"] == 9
    assert _budgets(quorum.ServerStatus("", None, None, 0.0, {}, {}, {}), "EUR") == []
