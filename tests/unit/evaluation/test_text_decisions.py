# SPDX-License-Identifier: Apache-2.0
"""Weights with evidence decide recorded votes as the vote serves them, wherever they are judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.cell import Ballot, Parameters, decide_one
from quorum.decision.evidence import FEATURES, Evidence
from quorum.decision.lazy import is_settled, order
from quorum.decision.weights import Weights
from quorum.evaluation.canary import pairs_from_votes
from quorum.evaluation.evaluate import Evaluation, evaluate
from quorum.evaluation.given import evaluate_weights
from quorum.evaluation.guard import compare
from quorum.evaluation.heldout import questions_saved
from quorum.evaluation.score import apply
from quorum.votes import Cell, VotesTable, build_table

MEMBERS = ("a", "b", "c", "d")
VALUES = (None, "n/a", "wool", "soft wool", "silk", "Merino wool")


def draw_table(rng: np.random.Generator, cells: int = 120) -> VotesTable:
    rows = [
        Cell(
            f"p{i // 3}", "", ("", "Scarf, soft wool", "SILK tie")[i % 3], f"a{i % 3}",
            tuple(VALUES[v] for v in rng.integers(0, len(VALUES), 4)), ("wool", "soft wool"),
        )
        for i in range(cells)
    ]  # fmt: skip
    return build_table(MEMBERS, rows)


def draw_weights(rng: np.random.Generator) -> Weights:
    terms = {name: (0.5, 0.5, float(rng.normal(0.0, 0.4))) for name in FEATURES}
    parameters = Parameters(tuple(rng.random(4).tolist()), -0.2, 0.1, 0.3)
    return Weights("loglinear", MEMBERS, parameters, confidence="calibrated", evidence=terms)


def ballots(cell: Cell) -> list[Ballot]:
    return [(value or "", int(value is None)) for value in cell.values]


def served(cell: Cell, weights: Weights) -> tuple[str, float]:
    text = Evidence(weights.evidence).of(cell.title)
    return decide_one(weights.parameters(cell.attribute), ballots(cell), (), text)


def test_tables_canary_guard_and_given_weights_decide_as_served() -> None:
    rng = np.random.default_rng(0)
    table, weights = draw_table(rng), draw_weights(rng)
    plain = replace(weights, evidence={})
    decision, own = apply(table, weights), [served(cell, weights) for cell in table.cells]
    for cell, winner, confidence, answer in zip(
        table.cells, decision.winner.tolist(), decision.confidence.tolist(), own, strict=True
    ):
        assert answer[0] == ("" if winner < 0 else cell.values[winner])
        assert answer[1] == pytest.approx(confidence, abs=1e-12)
        assert cell.title or answer == served(cell, plain)
    assert sum(a[0] != served(cell, plain)[0] for a, cell in zip(own, table.cells, strict=True)) > 5
    pairs = pairs_from_votes(table, plain, weights)
    assert [pair.canary.value or "" for pair in pairs] == [value for value, _ in own]
    right = np.mean([cell.is_right(value) for cell, (value, _) in zip(table.cells, own, strict=True)])
    assert compare(weights, plain, table).new == pytest.approx(right)
    assert evaluate_weights(table, weights).weights.value == pytest.approx(right)


def test_questions_saved_are_those_of_each_cell() -> None:
    rng = np.random.default_rng(1)
    table, weights, asked = draw_table(rng, 60), draw_weights(rng), 0
    for cell in table.cells:
        text, known = Evidence(weights.evidence).of(cell.title), [None] * 4
        for j in order(weights.default.weights):
            known[j] = ballots(cell)[j]  # type: ignore[call-overload]
            asked += 1
            if is_settled(weights.default, known, (), text):
                break
    assert questions_saved(table, weights) == pytest.approx(1.0 - asked / (4 * len(table)))


def test_loglinear_is_shown_without_the_text_too() -> None:
    table = draw_table(np.random.default_rng(2), 210)
    shown = evaluate(table, ["loglinear"], folds=2).methods
    assert "loglinear_without_evidence" in shown
    assert Evaluation.label("loglinear_without_evidence") == "loglinear, no evidence"
