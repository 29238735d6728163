# SPDX-License-Identifier: Apache-2.0
"""What asking in rows saves, by hand and by recorded votes."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.decision.lazy import order
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import equal_weights
from quorum.evaluation.costs import asking_costs
from quorum.evaluation.early import evaluate_early
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.heldout import questions_saved
from quorum.votes import Cell, VotesTable, build_table
from quorum_contract import Price

MEMBERS = ("a", "b", "c")


def equal(table: VotesTable):
    return equal_weights(table.members)


def test_questions_and_calls_are_counted_by_hand() -> None:
    # Two members agree on one attribute of a product and differ on the other: the third is called for it.
    votes = [("red", "red", "blue"), ("s", "m", "m")]
    cells = [
        Cell(f"p{product}", "", "", f"a{at}", own, own[:1])
        for product in range(10)
        for at, own in enumerate(votes)
    ]
    full, exact, *_ = evaluate_early(build_table(MEMBERS, cells), equal).results
    assert (full.asked, full.calls, full.flips) == (1.0, 1.0, 0.0)
    assert exact.asked == pytest.approx(5 / 6)
    assert exact.calls == 1.0
    assert exact.flips == 0.0
    assert (full.accuracy, exact.accuracy) == (0.5, 0.5)
    agreed = build_table(MEMBERS, [cell for cell in cells if cell.attribute == "a0"])
    assert evaluate_early(agreed, equal).results[1].calls == pytest.approx(2 / 3)


def test_it_counts_as_the_evaluation_of_methods_does() -> None:
    rng = np.random.default_rng(0)
    cells = [
        Cell(f"p{i // 2}", "", "", f"a{i % 2}", tuple(f"v{v}" for v in rng.integers(0, 3, 3)), ("v0",))
        for i in range(200)
    ]
    table = build_table(MEMBERS, cells)
    found = evaluate_early(table, equal, surer=(0.99,))
    assert 1.0 - found.results[1].asked == pytest.approx(questions_saved(table, equal_weights(MEMBERS)))
    assert found.results[-1].how == "first surer than 0.99"
    assert found.not_supported == (0.01, 0.02)
    assert found.results[2].asked == found.results[1].asked


@pytest.mark.parametrize("rule", [QuorumRule(), QuorumRule(min_members=2), QuorumRule(min_weight=2.5)])
def test_all_tables_of_an_evaluation_count_alike(rule: QuorumRule) -> None:
    """By the quorum and the prices of the deployment, also where too few members answer."""
    rng = np.random.default_rng(0)
    cells = []
    for i in range(300):
        drawn = rng.integers(0, 3, 3)
        votes = tuple(f"v{v}" if rng.random() < 0.8 else None for v in drawn)
        cells.append(Cell(f"p{i // 2}", "", "", f"a{i % 2}", votes, ("v0",)))
    table = build_table(MEMBERS, cells)
    prices = {"a": Price(per_call=4.0), "b": Price(per_call=2.0), "c": Price(per_call=1.0)}
    result = evaluate(table, ("majority",), prices=prices, rule=rule)
    assert result.costs is not None
    asking = asking_costs(MEMBERS, result.costs.per_call)
    found = evaluate_early(table, equal, rule=rule, costs=asking)
    assert found is not None
    exact = found.results[1]
    assert 0.0 < exact.asked < 1.0
    assert 1.0 - result.methods["majority"].questions_saved == pytest.approx(exact.asked)
    (in_turn,) = [row for row in result.costs.rows if row.name == "majority, in turn until settled"]
    assert in_turn.calls == pytest.approx(3 * exact.calls)


def test_rows_are_asked_together() -> None:
    cells = [Cell(f"p{i}", "", "", "x", ("red", "red", "red"), ("red",)) for i in range(10)]
    table = build_table(MEMBERS, cells)
    assert evaluate_early(table, equal).results[1].asked == pytest.approx(2 / 3)
    assert evaluate_early(table, equal, rows=[["a"], ["b", "c"]]).results[1].asked == 1.0
    assert evaluate_early(table, equal, rows=[["c", "a"], ["b"]]).results[1].asked == pytest.approx(2 / 3)


def test_the_cheap_member_may_come_first() -> None:
    assert order((1.0, 1.0, 0.5), (1.0, 1.0, 0.01)) == [2, 0, 1]
    votes = ("blue", "red", "red")
    table = build_table(MEMBERS, [Cell(f"p{i}", "", "", "x", votes, ("red",)) for i in range(10)])
    assert evaluate_early(table, equal).results[1].asked == 1.0
    assert evaluate_early(table, equal, costs=(1.0, 0.01, 0.01)).results[1].asked == pytest.approx(2 / 3)


def test_nothing_is_judged_without_cells_of_single_values() -> None:
    cells = [Cell(f"p{i}", "", "", "x", ("[]", "[]", "[]"), ("[]",)) for i in range(10)]
    table = build_table(MEMBERS, cells)
    assert evaluate_early(table, equal, {"x": "values"}) is None
    assert evaluate_early(build_table(MEMBERS, cells[:3]), equal) is None
