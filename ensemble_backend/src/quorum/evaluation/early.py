# SPDX-License-Identifier: Apache-2.0
"""Measure on recorded votes what asking members in rows saves, and what it changes.

Weights, and what is learned about stopping early, come from the votes of other products than those judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.arrays import Floats
from quorum.decision.lazy import order
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.stopping import Stopping
from quorum.decision.weights import Weights
from quorum.evaluation.heldout import assign_folds
from quorum.evaluation.measures import calibration_error
from quorum.learning.early_states import Flags, Ints, Route, States, indices_of, route_of, single_rows, states
from quorum.learning.stopping import chances, learn_stopping
from quorum.records import Record
from quorum.votes.table import VotesTable

JUDGED_RISKS = (0.01, 0.02, 0.05)
"""Those of :data:`quorum.decision.stopping.RISKS` that are measured."""
LEAST_CELLS = 20
"""Cells of an attribute that can be named as the worst."""
Learn = Callable[[VotesTable], Weights]


@dataclass(frozen=True, slots=True)
class EarlyResult(Record):
    """One way of asking, on cells whose products taught nothing; shares in [0, 1].

    Each cell counts by the votes with which its own asking stops, as if its attribute were asked alone. With
    ``lazy.whole_questions`` the members that other cells of the product need vote on it too, so that the
    share of the questions is about that of the calls.

    Attributes:
        how: The way, for people.
        asked: Share of the questions, one per member and cell, that were asked.
        calls: Share of the calls, one per member and product: one is spared where none of the product's cells
            needs it.
        flips: Share of the answers that are not those of all members.
        worst: Attribute of :data:`LEAST_CELLS` cells or more with the highest share of flips; "" without one.
        worst_flips: That share.
        accuracy: Share right, of the labelled cells; nan without any.
        ece: Expected calibration error of the confidence.
        ece_at_hand: That of the confidence by the votes at hand, as it is before it is put on the scale of
            all votes.
    """

    how: str
    asked: float
    calls: float
    flips: float
    worst: str
    worst_flips: float
    accuracy: float
    ece: float
    ece_at_hand: float


@dataclass(frozen=True, slots=True)
class EarlyEvaluation(Record):
    """What asking in rows saves.

    Attributes:
        results: All members; those that can still change the answer; then by flip risk.
        cells: Cells of single values that were judged, of ``products`` products.
        members: Number of members.
        not_supported: Flip risks that the votes of some part did not support, with which only what is certain
            ended the asking.
    """

    results: tuple[EarlyResult, ...]
    cells: int
    products: int
    members: int
    not_supported: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """The cells of one fold, decided by weights and stopped by limits of the others."""

    states: States
    route: Route
    change: Floats
    stopping: Stopping | None

    def confidence(self, at_hand: Floats, mask: int) -> Floats:
        """(n,) confidences of the votes of a set of members on the scale of all votes."""
        if self.stopping is None:
            return at_hand
        asked = mask.bit_count()
        return np.array([self.stopping.confidence(asked, float(sure)) for sure in at_hand])


def evaluate_early(
    table: VotesTable,
    learn: Learn,
    kinds: AnswerKinds | None = None,
    rule: QuorumRule | None = None,
    rows: Sequence[Sequence[str]] | None = None,
    *,
    costs: Sequence[float] | None = None,
    surer: Sequence[float] = (),
    folds: int = 5,
    seed: int = 0,
) -> EarlyEvaluation | None:
    """Ask the members of each cell in turn, and compare the answers with those of all members.

    Args:
        table: Votes, with or without gold.
        learn: Learns weights from a table, in the way to judge.
        kinds: Of the attributes; only cells of single values are judged.
        rule: Quorum; None: one answer is enough.
        rows: Names of the members of each row; None: one member a row, by weight per cost.
        costs: Of a call, one per member; None: all equal.
        surer: Further ways: stop at the first confidence that is so high.
        folds: Parts that the products are split into.
        seed: Of folds.

    Returns:
        The figures; None if there are no cells of single values of two members and as many products as folds.

    Raises:
        VotesError: The rows have other members than the table.
    """
    known, quorum = kinds or {}, rule or QuorumRule()
    single = single_rows(table, known)
    table = table if len(single) == len(table) else table.take(single)
    if len(table.members) < 2 or table.n_products < folds:
        return None
    fold, parts = assign_folds(table.products, folds, seed), []
    for part in range(folds):
        seen = table.take(np.flatnonzero(fold != part))
        weights = learn(seen)
        asked = _rows(weights, rows, costs)
        named = [[weights.members[member] for member in row] for row in asked]
        stopping, route = learn_stopping(seen, weights, learn, known, quorum, named, seed), route_of(asked)
        held = states(table, np.flatnonzero(fold == part), weights, route, known, quorum)
        change = chances(stopping.change, held.features) if stopping else np.ones(held.final.shape)
        parts.append(_Part(held, route, change, stopping))
    size = len(table.members)
    results = [
        _judged("all members", table, parts, lambda p: np.full(len(p.states.rows), len(p.route) - 1)),
        _judged("until nothing can change", table, parts, lambda p: p.states.stops(0.0, None, p.route)),
        *(
            _judged(f"flip risk {risk:.3g}", table, parts, partial(_stops, risk=risk))
            for risk in JUDGED_RISKS
        ),
        *(_judged(f"first surer than {bar:g}", table, parts, partial(_surer, bar=bar)) for bar in surer),
    ]
    missing = [r for r in JUDGED_RISKS if not all(p.stopping and p.stopping.limit(r) for p in parts)]
    return EarlyEvaluation(tuple(results), len(table), table.n_products, size, tuple(missing))


def _rows(
    weights: Weights, rows: Sequence[Sequence[str]] | None, costs: Sequence[float] | None
) -> list[list[int]]:
    if rows is None:
        return [[member] for member in order(weights.default.weights, costs)]
    return indices_of(rows, weights.members)


def _stops(part: _Part, risk: float) -> Ints:
    limit = part.stopping.limit(risk) if part.stopping else 0.0
    return part.states.stops(limit, part.change, part.route)


def _surer(part: _Part, bar: float) -> Ints:
    """Stop at the first confidence, on the scale of all votes, that is high enough."""
    rows = [part.states.masks.index(mask) for mask in part.route]
    sure = np.stack([part.confidence(part.states.confidence[row], part.states.masks[row]) for row in rows])
    return np.asarray(((sure >= bar) | part.states.final[rows]).argmax(axis=0))


def _judged(
    how: str, table: VotesTable, parts: Sequence[_Part], stops: Callable[[_Part], Ints]
) -> EarlyResult:
    columns: list[tuple[npt.NDArray[np.generic], ...]] = []
    asked = called = 0.0
    for part in parts:
        own, cells = stops(part), part.states
        sizes = np.array([mask.bit_count() for mask in part.route])
        asked += float(sizes[own].sum())
        last = np.zeros(int(cells.products.max()) + 1, np.int64)
        np.maximum.at(last, cells.products, own)
        called += float(sizes[last[np.unique(cells.products)]].sum())
        plain = cells.at(cells.confidence, own, part.route).astype(np.float64)
        mapped = np.empty(len(plain))
        for at, mask in enumerate(part.route):
            mapped[own == at] = part.confidence(plain[own == at], mask)
        flipped = ~cells.at(cells.same, own, part.route)
        right = cells.at(cells.right, own, part.route)
        columns.append((cells.rows, flipped, right, plain, mapped))
    rows, flipped, right, plain, mapped = (np.concatenate(column) for column in zip(*columns, strict=True))
    gold = table.labelled[rows]
    worst, most = _worst([table.cells[row].attribute for row in rows.tolist()], flipped)
    size = len(table.members)
    return EarlyResult(
        how=how,
        asked=asked / (size * len(rows)),
        calls=called / (size * table.n_products),
        flips=float(flipped.mean()),
        worst=worst,
        worst_flips=most,
        accuracy=float(right[gold].mean()) if gold.any() else float("nan"),
        ece=calibration_error(mapped[gold], right[gold]),
        ece_at_hand=calibration_error(plain[gold], right[gold]),
    )


def _worst(names: Sequence[str], flipped: Flags) -> tuple[str, float]:
    """The attribute with the highest share of flips, of those with enough cells, and the share."""
    every = np.array(names)
    shares: Mapping[str, float] = {
        str(name): float(flipped[every == name].mean())
        for name, cells in zip(*np.unique(every, return_counts=True), strict=True)
        if cells >= LEAST_CELLS
    }
    worst = max(shares, key=lambda name: shares[name], default="")
    return worst, shares.get(worst, 0.0)
