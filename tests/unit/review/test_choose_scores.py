# SPDX-License-Identifier: Apache-2.0
"""Cells whose scores contradict their votes are asked for more often, and say so; others are as before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.scored import scored_table

from quorum.decision.cell import Parameters
from quorum.decision.scores import LEVELS
from quorum.decision.weights import Weights
from quorum.review import choose as choosing
from quorum.review.choose import choose, contradiction
from quorum.review.need import disagreement
from quorum.votes import Cell, VotesTable, build_table

Votes = tuple[str | None, ...]


def table_of(*rows: tuple[Votes, tuple[float | None, ...]]) -> VotesTable:
    """A cell per row of votes and their probabilities."""
    cells = [
        Cell(f"p{i}", "", "", "a", votes, scores=tuple(None if p is None else math.log(p) for p in sure))
        for i, (votes, sure) in enumerate(rows)
    ]
    return build_table("abc", cells)


def clash_of(votes: Votes, *sure: float | None, weights: Weights | None = None) -> float:
    # The second cell only makes it a table with scores.
    found = contradiction(table_of((votes, sure), (("x",) * 3, (1.0,) * 3)), weights)
    assert found is not None
    return float(found[0])


def test_contradictions_by_hand() -> None:
    assert clash_of(("x", "x", "x"), 0.9, 0.6, 0.3) == pytest.approx(1 - 0.6)
    assert clash_of(("x", "x", None), 0.2, None, None) == pytest.approx(0.8)
    assert clash_of(("x", "x", "x"), None, None, None) == 0.0
    assert clash_of((None, None, None), None, None, None) == 0.0
    assert clash_of(("x", "x", "y"), 0.3, 0.4, 0.9) == pytest.approx(0.5)
    assert clash_of(("x", "y", "x"), 0.3, 0.4, 0.9) == 0.0
    assert clash_of(("n/a", "y", "n/a"), 0.1, 0.9, None) == pytest.approx(0.8)
    # Nothing to compare with: no value is most frequent, or the majority has no scores.
    assert clash_of(("x", "y", "z"), 0.1, 0.5, 0.9) == 0.0
    assert clash_of(("x", "y", None), 0.1, 0.9, None) == 0.0
    assert clash_of(("x", "x", "y"), None, None, 0.9) == 0.0


def test_members_without_weight_contradict_nothing() -> None:
    weights = Weights("em", tuple("abc"), Parameters((1.0, 1.0, 0.0)))
    assert clash_of(("x", "x", "y"), 0.3, 0.4, 0.9, weights=weights) == pytest.approx(1 - 0.35)


def test_a_member_that_has_a_say_only_with_a_score_is_heard() -> None:
    offsets = ((0.0,) * LEVELS, (0.0,) * LEVELS, (0.0,) * (LEVELS - 1) + (2.0,))
    weights = Weights("em", tuple("abc"), Parameters((1.0, 1.0, 0.0), scores=offsets))
    assert clash_of(("x", "x", "y"), 0.3, 0.4, 0.9, weights=weights) == pytest.approx(0.5)
    split = disagreement(table_of((("x", "x", "y"), (0.3, 0.4, 0.9)), (("x",) * 3, (1.0,) * 3)), weights)
    assert split[0] > 0.5
    assert split[1] == 0.0


def test_tables_without_scores_are_drawn_from_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    table = scored_table(np.random.default_rng(0), 300, labelled=30)
    bare = build_table(table.members, [replace(cell, scores=()) for cell in table.cells])
    assert contradiction(bare) is None
    drawn = [choice.index for choice in choose(bare, 60, seed=1)]
    assert drawn != [choice.index for choice in choose(table, 60, seed=1)]
    monkeypatch.setattr(choosing, "CONTRADICTION", 0.0)
    assert drawn == [choice.index for choice in choose(table, 60, seed=1)]
    assert not any("sure" in choice.reason for choice in choose(bare, 300))


def test_contradictions_are_drawn_more_often_and_say_so() -> None:
    sure, unsure = (("x", "x", "x"), (0.99,) * 3), (("x", "x", "x"), (0.2,) * 3)
    usual, surer = (("x", "x", "y"), (0.9, 0.9, 0.2)), (("x", "x", "y"), (0.1, 0.1, 0.98))
    table = table_of(*[sure, usual, unsure, surer] * 100)
    seen = [0] * 4
    for seed in range(30):
        choices = choose(table, 40, seed=seed)
        for choice in choices:
            seen[choice.index % 4] += 1
        assert sum(choice.index % 2 for choice in choices) == 20
        reasons = {choice.index % 4: choice.reason for choice in choices}
        assert len(reasons) == 4
        assert reasons[0] == "members agree; 200 unlabelled like this: can agreement be trusted?"
        assert reasons[1] == "members disagree 2 : 1; 200 unlabelled like this"
        assert reasons[2].startswith("members agree, but are not sure of it; 200 unlabelled")
        assert reasons[3] == "members disagree 2 : 1, and a minority is surer; 200 unlabelled like this"
    assert 1.3 * seen[0] < seen[2] < 3.0 * seen[0]
    assert 1.3 * seen[1] < seen[3] < 3.0 * seen[1]
