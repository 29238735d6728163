# SPDX-License-Identifier: Apache-2.0
"""Decide recorded cells by the votes of some members: what a vote that asks in rows has at hand.

An order of asking is a route through the sets of members that were asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds, has_one_value, kind_in, parameters_for
from quorum.decision.arrays import Floats
from quorum.decision.cell import ANSWERED, Ballot, share_out
from quorum.decision.evidence import Evidence
from quorum.decision.forms import decide
from quorum.decision.lazy import order, standing
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import FEATURES, features_of
from quorum.decision.weights import Weights
from quorum.votes.schema import Cell, check_wanted
from quorum.votes.table import VotesTable
from quorum_contract import DecisionStatus, Status

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)
Route = tuple[int, ...]
"""Bit masks of the members asked after each row, the last of which has all."""

MOST_ORDERED = 5
DRAWN_ORDERS = 60
_BY_MASK = ("features", "final", "open", "same", "confidence", "share", "right")
_NOT_ASKED: Ballot = ("", int(Status.NOT_ASKED))


@dataclass(frozen=True, slots=True)
class States:
    """What the votes of some members say of each cell, for several sets of members.

    Attributes:
        masks: (s,) the sets, bit j for member j.
        features: (s, n, f) see :data:`quorum.decision.stopping.FEATURES`.
        final: (s, n) whether no other vote can change the answer.
        open: (s, n) whether an early stop may be tried: an answer is there, and would be given.
        same: (s, n) whether the answer is that of all members.
        confidence: (s, n) of these votes.
        share: (s, n) of the confidence that all votes have in that answer.
        right: (s, n) whether the answer is right; False without gold.
        rows: (n,) of the table.
        products: (n,)
    """

    masks: tuple[int, ...]
    features: Floats
    final: Flags
    open: Flags
    same: Flags
    confidence: Floats
    share: Floats
    right: Flags
    rows: Ints
    products: npt.NDArray[np.int32]

    def take(self, cells: Ints) -> States:
        """The states of some of the cells."""
        parts = {name: getattr(self, name)[:, cells] for name in _BY_MASK}
        return replace(self, **parts, rows=self.rows[cells], products=self.products[cells])

    @staticmethod
    def join(parts: Sequence[States]) -> States:
        """The states of the cells of all parts, which are for the same sets of members."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in _BY_MASK}
        rows = np.concatenate([part.rows for part in parts])
        return replace(
            parts[0], **arrays, rows=rows, products=np.concatenate([part.products for part in parts])
        )

    def stops(self, limit: float, change: Floats | None, route: Route) -> Ints:
        """(n,) index into a route after which each cell is asked no further.

        Args:
            limit: Highest chance of a change; 0: only for certain.
            change: (s, n) the chance of a change; None with a limit of 0.
            route: Sets of members, each a part of the next.
        """
        found = np.full(len(self.rows), len(route) - 1)
        for at in reversed(range(len(route) - 1)):
            row = self.masks.index(route[at])
            ends = self.final[row]
            if change is not None and limit > 0.0:
                ends = ends | (self.open[row] & (change[row] <= limit))
            found[ends] = at
        return found

    def at(self, values: npt.NDArray[Number], stops: Ints, route: Route) -> npt.NDArray[Number]:
        """(n,) of (s, n) values, those of the sets at which the cells stop."""
        rows = np.array([self.masks.index(mask) for mask in route])
        return np.asarray(values[rows[stops], np.arange(len(stops))])


def routes(weights: Weights, rows: Sequence[Sequence[str]] | None = None, seed: int = 0) -> list[Route]:
    """The ways of asking that limits are tested for, those by weight, one member after the other, first.

    These are all ways to put few members into rows. Of more members these are ``rows``, by default one member
    a row by weight, also with the first two, three and so on of them as one row: a deployment without rows of
    its own chooses its first row by weights and flip risk. Further :data:`DRAWN_ORDERS` random orders, one
    member after the other.
    """
    size = len(weights.members)
    by_weight = [[member] for member in order(weights.default.weights)]
    found = [route_of(by_weight)]
    if size <= MOST_ORDERED:
        found += _routes_from(0, (1 << size) - 1)
    else:
        draws = np.random.default_rng(seed)
        orders = [draws.permutation(size).tolist() for _ in range(DRAWN_ORDERS)]
        found += [route_of([[member] for member in own]) for own in orders]
        route = route_of(indices_of(rows, weights.members) if rows else by_weight)
        found += [route[first:] for first in range(len(route))]
    return list(dict.fromkeys(found))


def indices_of(rows: Sequence[Sequence[str]], members: Sequence[str]) -> list[list[int]]:
    """The index of each member of rows; raises VotesError for rows of other members."""
    check_wanted(members, [name for row in rows for name in row])
    return [[members.index(name) for name in row] for row in rows]


def route_of(rows: Sequence[Sequence[int]]) -> Route:
    """The route of rows of member indices."""
    return tuple(itertools.accumulate(sum(1 << member for member in row) for row in rows))


def _routes_from(asked: int, everyone: int) -> Iterator[Route]:
    """All routes from a set of members on."""
    if asked == everyone:
        yield ()
    for mask in range(asked + 1, everyone + 1):
        if mask & asked == asked:
            for rest in _routes_from(mask, everyone):
                yield (mask, *rest)


def single_rows(table: VotesTable, kinds: AnswerKinds) -> Ints:
    """Rows of the cells that are answered by a single value."""
    groups = [has_one_value(kind_in(kinds, name)) for _, name in table.group_names]
    return np.flatnonzero(np.array(groups, np.bool_)[table.groups]) if groups else np.zeros(0, np.int64)


def states(
    table: VotesTable,
    rows: Ints,
    weights: Weights,
    masks: Sequence[int],
    kinds: AnswerKinds,
    rule: QuorumRule,
) -> States:
    """Decide cells by the votes of each set of members; all of them are of single values."""
    shape = (len(masks), len(rows))
    found = States(
        masks=tuple(masks),
        features=np.zeros((*shape, len(FEATURES))),
        final=np.zeros(shape, np.bool_),
        open=np.zeros(shape, np.bool_),
        same=np.zeros(shape, np.bool_),
        confidence=np.zeros(shape),
        share=np.zeros(shape),
        right=np.zeros(shape, np.bool_),
        rows=rows,
        products=table.products[rows],
    )
    evidence = Evidence(weights.evidence) if weights.evidence else None
    for at, row in enumerate(rows.tolist()):
        _fill(found, at, table.cells[row], weights, kinds, rule, evidence)
    return found


def _fill(
    found: States,
    at: int,
    cell: Cell,
    weights: Weights,
    kinds: AnswerKinds,
    rule: QuorumRule,
    evidence: Evidence | None,
) -> None:
    kind = kind_in(kinds, cell.attribute)
    parameters = parameters_for(weights, cell.attribute, cell.category, kind)
    text, scores = evidence.of(cell.title) if evidence else None, cell.scores
    ballots = [("", int(Status.ERROR)) if value is None else (value, ANSWERED) for value in cell.values]
    value, _, status = decide(rule, parameters, ballots, scores, text)
    shares = share_out(parameters, ballots, scores, text)
    everyone = (1 << len(ballots)) - 1
    for number, mask in enumerate(found.masks):
        known = [ballot if mask >> j & 1 else None for j, ballot in enumerate(ballots)]
        at_hand = [ballot or _NOT_ASKED for ballot in known]
        own, confidence, given = decide(rule, parameters, at_hand, scores, text)
        place = (number, at)
        found.same[place] = (own, given) == (value, status)
        found.confidence[place] = confidence
        found.share[place] = shares.get(own, 0.0)
        found.right[place] = bool(cell.gold) and cell.is_right(own)
        if mask == everyone:
            found.final[place] = True
            continue
        ahead = standing(parameters, known, scores, text)
        if ahead is None or given != DecisionStatus.DECIDED:
            # It may be withheld in any case.
            found.final[place] = is_settled(rule, parameters, known, scores, text)
            continue
        found.final[place] = ahead.is_final
        found.open[place] = not ahead.is_final
        found.features[place] = features_of(ahead, confidence, known)
