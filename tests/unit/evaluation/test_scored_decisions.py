# SPDX-License-Identifier: Apache-2.0
"""Decisions of tables with scores are those that are served; stopping early never changes one of them."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.cell import Ballot, Parameters, decide_one
from quorum.decision.lazy import is_settled, order
from quorum.decision.scores import EDGES, LEVELS
from quorum.decision.weights import Weights, equal_weights, group_key
from quorum.evaluation import apply
from quorum.evaluation.canary import pairs_from_votes
from quorum.evaluation.guard import compare
from quorum.evaluation.heldout import questions_saved
from quorum.votes import Cell, VotesTable, build_table

VALUES = (None, "n/a", "wool", "soft wool", "silk")
Scores = tuple[float | None, ...]


def draw_scores(rng: np.random.Generator, members: int) -> Scores:
    """Of every level, on edges between levels, and missing."""
    kinds = rng.integers(0, 3, members)
    scores = np.float32(-(rng.exponential(1.5, members) ** 2)).tolist()
    edges = np.float32(rng.choice(EDGES, members)).tolist()
    return tuple((None, edge, score)[kind] for kind, edge, score in zip(kinds, edges, scores, strict=True))


def draw_parameters(
    rng: np.random.Generator, members: int, scored: bool = True, calibrated: bool = False
) -> Parameters:
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], members) if rng.random() < 0.5 else rng.random(members) * 3
    na_bias, part_bias = (float(rng.choice([0.0, rng.normal()])) for _ in range(2))
    none_bias = float(rng.normal()) if calibrated else None
    offsets = np.sort(rng.normal(0.0, 1.5, (members, LEVELS)), axis=1)
    if rng.random() < 0.5:
        offsets = np.round(offsets)
    scores = tuple(map(tuple, offsets.tolist())) if scored else ()
    return Parameters(tuple(weights.tolist()), na_bias, none_bias, part_bias, scores)


def draw_table(rng: np.random.Generator, members: int, cells: int = 120) -> VotesTable:
    rows = [
        Cell(
            f"p{i // 3}", f"c{i % 2}", "", f"a{i % 3}",
            tuple(VALUES[v] for v in rng.integers(0, len(VALUES), members)), ("wool",) if i % 2 else (),
            scores=draw_scores(rng, members) if i % 7 else (),
        )
        for i in range(cells)
    ]  # fmt: skip
    return build_table([f"m{j}" for j in range(members)], rows)


def draw_weights(rng: np.random.Generator, table: VotesTable) -> Weights:
    """Parameters with scores for some attributes and groups, and without for others."""
    calibrated = bool(rng.random() < 0.5)
    with_scores, other, without = (
        draw_parameters(rng, len(table.members), scored, calibrated) for scored in (True, True, False)
    )
    kind = "calibrated" if calibrated else "agreement"
    groups = {group_key("c0", "a2"): other}
    return Weights("em", table.members, with_scores, {"a1": without}, groups, confidence=kind)


def ballots(cell: Cell) -> list[Ballot]:
    return [(value or "", int(value is None)) for value in cell.values]


def served(cell: Cell, weights: Weights) -> tuple[str, float]:
    """As the vote model decides: with scores of -0.0 and below, None where there is none."""
    scores = cell.scores or (None,) * len(cell.values)
    return decide_one(weights.parameters(cell.attribute, cell.category), ballots(cell), scores)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(12))
def test_a_table_is_decided_as_its_cells_are_served(members: int, seed: int) -> None:
    rng = np.random.default_rng([members, seed])
    table = draw_table(rng, members)
    weights = draw_weights(rng, table)
    decision, changed = apply(table, weights), 0
    for row, cell in enumerate(table.cells):
        value, confidence = served(cell, weights)
        winner = int(decision.winner[row])
        assert value == ("" if winner < 0 else cell.values[winner])
        assert confidence == pytest.approx(decision.confidence[row], abs=1e-12)
        changed += value != served(replace(cell, scores=()), weights)[0]
    assert members == 1 or changed > 0


def test_canary_and_guard_decide_with_scores() -> None:
    rng = np.random.default_rng(5)
    table = draw_table(rng, 3)
    weights, equal = draw_weights(rng, table), equal_weights(table.members)
    pairs = pairs_from_votes(table, equal, weights)
    for pair, cell in zip(pairs, table.cells, strict=True):
        assert ((pair.stable.value or ""), (pair.canary.value or "")) == (
            served(cell, equal)[0], served(cell, weights)[0],
        )  # fmt: skip
    gold = [cell for cell in table.cells if cell.gold]
    right = np.mean([cell.is_right(served(cell, weights)[0]) for cell in gold])
    assert compare(weights, equal, table).new == pytest.approx(right)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_stopping_early_is_exact_whatever_the_scores(members: int) -> None:
    """Every pattern of votes, asked in every order, with random offsets, levels and missing scores."""
    rng, stopped = np.random.default_rng(members), 0
    choices: list[Ballot] = [("", 1), ("n/a", 0), ("wool", 0), ("soft wool", 0), ("silk", 0)][: members + 2]
    for _ in range(24 if members < 4 else 4 if os.environ.get("QUORUM_LONG") else 1):
        parameters = draw_parameters(rng, members)
        for votes in itertools.product(choices, repeat=members):
            scores = draw_scores(rng, members)
            full = decide_one(parameters, votes, scores)[0]
            for asked in itertools.permutations(range(members)):
                known: list[Ballot | None] = [None] * members
                given: list[float | None] = [None] * members
                for step, j in enumerate(asked, start=1):
                    known[j], given[j] = votes[j], scores[j]
                    if is_settled(parameters, known, given):
                        stopped += step < members
                        seen = [ballot or ("", 5) for ballot in known]
                        assert decide_one(parameters, seen, given)[0] == full
                        break
    assert stopped > 0 or members == 1


@pytest.mark.parametrize("seed", range(3))
def test_questions_saved_are_those_of_each_cell(seed: int) -> None:
    rng = np.random.default_rng([9, seed])
    table = draw_table(rng, 4)
    table = table.take([*range(len(table)), *range(len(table) // 2)])
    weights, asked = draw_weights(rng, table), 0
    for cell in table.cells:
        parameters = weights.parameters(cell.attribute, cell.category)
        scores, votes = cell.scores or (None,) * 4, ballots(cell)
        known: list[Ballot | None] = [None] * 4
        for j in order(weights.default.weights):
            known[j] = votes[j]
            asked += 1
            if is_settled(parameters, known, scores):
                break
    assert questions_saved(table, weights) == pytest.approx(1.0 - asked / (4 * len(table)))
    assert questions_saved(table, weights) > 0.0
