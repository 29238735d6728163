# SPDX-License-Identifier: Apache-2.0
"""Simulated weeks on votes whose makers are known: what changed must show, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.votes import Cell, VotesTable, build_table
from quorum_bench.scenarios import weeks
from quorum_bench.scenarios.weeks import (
    CHANGE,
    FROZEN,
    MAJORITY,
    WEEKS,
    WINDOW,
    Recorded,
    World,
    play,
    same_cells,
    scramble,
    ways,
)

MEMBERS = ("good", "fair", "poor")


def votes(accuracy: tuple[float, ...]) -> VotesTable:
    rng = np.random.default_rng(1)
    cells = []
    for product in range(120):
        for attribute in "abcd":
            gold = f"v{rng.integers(8)}"
            values = tuple(gold if rng.random() < right else f"v{rng.integers(8)}" for right in accuracy)
            cells.append(Cell(f"p{product}", "c", "t", attribute, values, (gold,)))
    return build_table(MEMBERS, cells)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(MEMBERS, {0: votes((0.95, 0.75, 0.7)), 20: votes((0.3, 0.6, 0.5))})


@pytest.fixture
def majority_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is learned, for what does not depend on it."""
    monkeypatch.setattr(weeks, "ways", lambda gold: [way for way in ways(gold) if way.name == MAJORITY])


def test_a_member_that_breaks_is_named_and_learned_away(recorded: Recorded) -> None:
    course = play(recorded, World("worse", 0, after=20), seed=0, products=60, gold=30)
    late = slice(CHANGE + 1 - WINDOW, None)
    assert len(course.ways[FROZEN]) == WEEKS - WINDOW
    again = np.mean(course.ways["learned again, gold"][late])
    assert again > np.mean(course.ways[FROZEN][late]) + 5
    assert all(named == [] for week, named in course.alarms.items() if week < CHANGE)
    assert all(0 in course.alarms[week] for week in range(CHANGE, WEEKS + 1))
    good = course.members["good"]
    assert good[0] > 85
    assert good[-1] < 50


@pytest.mark.usefixtures("majority_alone")
def test_nothing_happens_when_nothing_changes(recorded: Recorded) -> None:
    course = play(recorded, World("same"), seed=0, products=60, gold=30)
    assert not any(course.alarms.values())
    for values in course.members.values():
        assert len(set(values)) == 1


@pytest.mark.usefixtures("majority_alone")
def test_a_biased_member_says_its_usual_value(recorded: Recorded) -> None:
    course = play(recorded, World("biased", 0, bias=1.0), seed=0, products=60, gold=30)
    # One value of eight for every attribute, whatever the gold.
    assert course.members["good"][-1] < 35
    assert course.members["fair"][-1] == course.members["fair"][0]


@pytest.mark.slow
def test_weeks_are_the_same_for_the_same_seed(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weeks, "WEEKS", CHANGE)
    world = World("worse", 0, after=20)
    first, second = (play(recorded, world, seed=3, products=30, gold=20) for _ in range(2))
    assert first == second
    assert first != play(recorded, world, seed=4, products=30, gold=20)


def test_noise_damages_as_many_letters_as_it_says() -> None:
    text = "leather " * 2000
    assert scramble(text, 0, 1) == text
    kept = sum(a == b for a, b in zip(scramble(text, 10, 1), text, strict=False))
    assert kept < len(text)
    assert scramble(text, 10, 1) == scramble(text, 10, 1)
    # A third each is dropped, doubled, replaced, so the length stays about the same.
    assert len(scramble(text, 20, 1)) == pytest.approx(len(text), rel=0.02)
    assert scramble("a", 100, 2)


def test_tables_are_put_in_the_same_order() -> None:
    table = votes((0.9, 0.8, 0.7))
    turned = build_table(MEMBERS, table.cells[::-1])
    ordered = same_cells({0: table, 20: turned}, table.cells)
    assert ordered[20].cells == table.cells
