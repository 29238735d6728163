# SPDX-License-Identifier: Apache-2.0
"""Replay recorded votes as weeks in which something changes, with several ways to keep weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation.drift import drift
from quorum.evaluation.score import apply, is_right
from quorum.learning.learn import learn
from quorum.learning.online import State, begin, relearn, update
from quorum.votes import Cell, VotesTable, build_table

WEEKS = 12
CHANGE = 7
"""The first week after the change."""
WINDOW = 4
FORGETTING = 0.5**0.5
"""Factor per week: a half-life of two weeks."""
MAJORITY = "majority"
FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Real votes on the same cells, read at several levels of noise.

    Attributes:
        members: Their names.
        by_noise: Noise in percent -> the votes table; all have the same cells in the same order.
    """

    members: tuple[str, ...]
    by_noise: Mapping[int, VotesTable]

    @property
    def clean(self) -> VotesTable:
        """Votes on the texts as they are."""
        return self.by_noise[0]


@dataclass(frozen=True, slots=True)
class World:
    """A change of one member or of all.

    Attributes:
        name: In tables.
        member: The member that changes; ``None``: the texts of all.
        before: Noise of its votes before the change, percent.
        after: Noise from the change on.
        bias: Share of its answers that are its most frequent value, from the change on.
    """

    name: str
    member: int | None = None
    before: int = 0
    after: int = 0
    bias: float = 0.0


@dataclass(frozen=True, slots=True)
class Way:
    """A way to keep weights.

    Attributes:
        name: In tables.
        gold: Gold labels a week.
        keep: Weeks so far, and the state of them all -> the weights of the next week.
    """

    name: str
    gold: int
    keep: Callable[[Sequence[VotesTable], State], Weights]


@dataclass(frozen=True, slots=True)
class Course:
    """Results of one draw of a world.

    Attributes:
        ways: Way -> accuracy in percent, week by week from the first after the learning.
        members: The same for each member.
        alarms: Week -> the members that drift named, by place.
    """

    ways: Mapping[str, list[float]]
    members: Mapping[str, list[float]]
    alarms: Mapping[int, list[int]]


def ways(gold: int) -> list[Way]:
    """List the compared ways; all start with the first weeks' votes."""
    return [
        Way(MAJORITY, 0, lambda seen, state: equal_weights(seen[0].members)),
        Way(FROZEN, gold, lambda seen, state: learn(joined(seen[:WINDOW]))),
        Way("learned again, no gold", 0, lambda seen, state: learn(joined(seen[-WINDOW:]), "em")),
        Way("learned again, gold", gold, lambda seen, state: learn(joined(seen[-WINDOW:]))),
        Way("online, no gold", 0, lambda seen, state: relearn(state, "em")),
        Way("online, gold", gold, lambda seen, state: relearn(state)),
    ]


def play(recorded: Recorded, world: World, seed: int, products: int, gold: int) -> Course:
    """Play the weeks once.

    One half of the products comes in week by week, ``products`` of them drawn each week. Accuracy is measured
    on the other half, which no way learns from, with the votes of the week's members.
    """
    rng = np.random.default_rng(seed)
    clean = recorded.clean
    order = rng.permutation(clean.n_products)
    half = len(order) // 2
    asked, held = order[:half], np.isin(clean.products, order[half:])
    weeks = []
    for week in range(1, WEEKS + 1):
        drawn = rng.choice(asked, min(products, half), replace=False)
        rows = np.flatnonzero(np.isin(clean.products, drawn))
        weeks.append(_votes(recorded, world, week, rows, rng, gold))
    exam = {
        late: _votes(recorded, world, CHANGE if late else 1, np.flatnonzero(held), rng)
        for late in (False, True)
    }
    blind = [_blind(week) for week in weeks]
    states = {True: _states(weeks), False: _states(blind)}
    accuracy: dict[str, list[float]] = {}
    for way in ways(gold):
        seen, state = (weeks if way.gold else blind), states[way.gold > 0]
        weights = way.keep(seen[:WINDOW], state[WINDOW - 1])
        for week in range(WINDOW + 1, WEEKS + 1):
            if way.name not in (MAJORITY, FROZEN):
                weights = way.keep(seen[: week - 1], state[week - 2])
            sheet = exam[week >= CHANGE]
            right = is_right(sheet, apply(sheet, weights))
            accuracy.setdefault(way.name, []).append(100.0 * float(right.mean()))
    members: dict[str, list[float]] = {}
    for week in range(WINDOW + 1, WEEKS + 1):
        for name, share in zip(recorded.members, exam[week >= CHANGE].correct().mean(axis=0), strict=True):
            members.setdefault(name, []).append(100.0 * float(share))
    return Course(accuracy, members, _alarms(weeks))


def joined(weeks: Sequence[VotesTable]) -> VotesTable:
    """Join several weeks into one table."""
    return build_table(weeks[0].members, [cell for week in weeks for cell in week.cells])


def _states(weeks: Sequence[VotesTable]) -> list[State]:
    """Return the state after each week."""
    states = [begin(weeks[0])]
    for week in weeks[1:]:
        states.append(update(states[-1], week, FORGETTING))
    return states


def _alarms(weeks: Sequence[VotesTable]) -> dict[int, list[int]]:
    reference = joined(weeks[:WINDOW]).statistic()
    return {
        number: [week.members.index(f.member) for f in drift(reference, _blind(week)).findings]
        for number, week in enumerate(weeks, start=1)
        if number > WINDOW
    }


def _votes(
    recorded: Recorded,
    world: World,
    week: int,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    rng: np.random.Generator,
    gold: int | None = None,
) -> VotesTable:
    """A week's votes on these cells; ``gold`` of them keep their gold, all by default."""
    late = week >= CHANGE
    noise = world.after if late else world.before
    keeps = set(rows if gold is None else rng.choice(rows, min(gold, len(rows)), replace=False))
    usual = _usual(recorded.clean, world.member) if world.bias and late and world.member is not None else {}
    cells = []
    for row in rows:
        cell, noisy = recorded.clean.cells[row], recorded.by_noise[noise].cells[row]
        changed = range(len(recorded.members)) if world.member is None else [world.member]
        values = list(cell.values)
        for member in changed:
            values[member] = noisy.values[member]
            if usual and rng.random() < world.bias:
                values[member] = usual[cell.attribute]
        kept = cell.gold if row in keeps else ()
        product = f"{week}-{cell.product}"
        cells.append(replace(cell, product=product, values=tuple(values), gold=kept, scores=()))
    return build_table(recorded.members, cells)


def _usual(table: VotesTable, member: int) -> dict[str, str | None]:
    counts: dict[str, Counter[str | None]] = {}
    for cell in table.cells:
        counts.setdefault(cell.attribute, Counter())[cell.values[member]] += 1
    return {attribute: count.most_common(1)[0][0] for attribute, count in counts.items()}


def _blind(table: VotesTable) -> VotesTable:
    return table.with_gold(np.zeros(len(table), np.bool_))


def scramble(text: str, percent: int, seed: int) -> str:
    """Replace, drop or double ``percent`` of the letters and digits."""
    rng = np.random.default_rng(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = []
    for sign in text:
        if sign.isalnum() and rng.random() < percent / 100.0:
            sign = ("", sign * 2, letters[int(rng.integers(26))])[int(rng.integers(3))]
        made.append(sign)
    return "".join(made) or text


def same_cells(tables: Mapping[int, VotesTable], clean: Sequence[Cell]) -> Mapping[int, VotesTable]:
    """Bring the tables into the order of the clean table's cells."""
    ordered = {}
    for noise, table in tables.items():
        places = {(cell.product, cell.attribute): cell for cell in table.cells}
        cells = [places[cell.product, cell.attribute] for cell in clean]
        ordered[noise] = build_table(table.members, cells)
    return ordered
