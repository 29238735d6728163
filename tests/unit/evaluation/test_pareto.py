# SPDX-License-Identifier: Apache-2.0
"""Accuracy against cost: what calls cost, which ways are on the Pareto front, and calls that are not made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quorum.evaluation.costs import member_costs
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.pareto import CostRow, _marked
from quorum.learning.simulate import independent
from quorum.votes import Cell, VotesTable, build_table
from quorum_contract import Price, Spent

PRICES = {"m0": Price(per_call=1.0), "m1": Price(per_call=2.0), "m2": Price(per_call=4.0)}


def simulated(cells: int = 600, accuracy: Any = (0.7, 0.8, 0.9), usage: Any = ()) -> VotesTable:
    codes, truth = independent(np.random.default_rng(3), cells, np.array(accuracy), 5)
    rows = []
    for i in range(cells):
        votes = tuple(f"v{v}" for v in codes[i])
        rows.append(Cell(f"p{i // 3}", "c", "", f"a{i % 3}", votes, (f"v{truth[i]}",), usage=usage))
    return build_table([f"m{j}" for j in range(len(accuracy))], rows)


def test_costs_are_prices_on_what_was_recorded() -> None:
    table = simulated(6, usage=(Spent(1 / 3, 100, 10, 0, 0.5, 7.0),) * 3)
    prices = {"m0": Price(per_call=1.0), "m1": Price(per_1k_prompt_tokens=1.0), "m2": Price(per_second=2.0)}
    assert member_costs(table, prices) == pytest.approx({"m0": 1.0, "m1": 0.3, "m2": 3.0})
    assert member_costs(table, {**prices, "m2": None}) is None
    assert member_costs(table) == pytest.approx(dict.fromkeys(prices, 21.0))
    assert member_costs(table, dict.fromkeys(prices)) == member_costs(table), "no prices: as recorded"


def test_without_usage_a_price_by_the_call_is_enough() -> None:
    table = simulated(6)
    assert member_costs(table) is None
    assert member_costs(table, PRICES) == {"m0": 1.0, "m1": 2.0, "m2": 4.0}
    assert member_costs(table, {**PRICES, "m1": Price(per_1k_answer_tokens=1.0)}) is None


def test_who_was_not_called_says_nothing_of_its_cost() -> None:
    cells = [
        Cell(f"p{i}", "", "", "x", ("v", "v"), ("v",), usage=(Spent(1, 1, 1, 0, 0, 2.0), spent))
        for i, spent in enumerate((Spent(1, 1, 1, 0, 0, 6.0), Spent(cost=0.0)))
    ]
    assert member_costs(build_table(["a", "b"], cells)) == {"a": 2.0, "b": 6.0}


def test_accuracy_stands_beside_cost() -> None:
    result = evaluate(simulated(), ("loglinear",), prices=PRICES)
    assert result.costs is not None
    rows = {row.name: row for row in result.costs.rows}
    best = result.best_method
    assert (rows["m1"].calls, rows["m1"].cost) == (1.0, 2000.0)
    assert rows["m1"].accuracy == result.members["m1"].value
    assert (rows["majority"].calls, rows["majority"].cost) == (3, 7000.0)
    learned, lazy = rows[result.label(best)], rows[f"{result.label(best)}, in turn until settled"]
    assert learned.cost == 7000.0
    assert lazy.accuracy == learned.accuracy
    assert lazy.calls < 3
    assert lazy.cost < learned.cost
    assert not learned.is_pareto
    assert not rows["majority"].is_pareto or rows["majority"].accuracy > learned.accuracy
    cascades = [row for name, row in rows.items() if name.startswith("m0 if ")]
    assert cascades
    assert all(1.0 <= row.calls < 3.0 for row in cascades)
    costs = [row.cost for row in result.costs.rows]
    assert costs == sorted(costs)
    assert result.to_json()["costs"]["rows"][0]["name"] == "m0"


def test_without_costs_there_is_no_such_table() -> None:
    assert evaluate(simulated(90), ("majority",)).costs is None


def test_the_front_is_what_nothing_beats() -> None:
    rows = [
        CostRow("cheap", 0.7, 1, 1.0),
        CostRow("dear and worse", 0.6, 1, 2.0),
        CostRow("good", 0.8, 2, 3.0),
        CostRow("as good, dearer", 0.8, 2, 4.0),
        CostRow("best", 0.9, 3, 9.0),
    ]
    assert [row.name for row in _marked(rows) if row.is_pareto] == ["cheap", "good", "best"]
    same = [CostRow("a", 0.5, 1, 1.0), CostRow("b", 0.5, 1, 1.0)]
    assert all(row.is_pareto for row in _marked(same))
