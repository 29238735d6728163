# SPDX-License-Identifier: Apache-2.0
"""Score the accuracy of members and weights on labelled cells, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats, Rule, decide
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence, counted
from quorum.decision.scores import LEVELS, levels_of
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.evaluation.stats import TAIL_95, Estimate, means_over_products
from quorum.records import Record
from quorum.votes.table import VotesTable, scores_or_none
from quorum_contract.errors import QuorumError


@dataclass(frozen=True, slots=True)
class Score(Record):
    """Accuracy of every member and every set of weights on the same labelled cells, with 95 % intervals.

    Attributes:
        members: By member name; an abstention counts as wrong.
        methods: By the given name, and "majority".
        gold_labels: Number of labelled cells.
        gold_outside: Of these, cells whose gold no member named.
        products: Number of their products.
    """

    members: Mapping[str, Estimate]
    methods: Mapping[str, Estimate]
    gold_labels: int
    gold_outside: int
    products: int


class NothingToScoreError(QuorumError, ValueError):
    """No labelled cell in the table."""

    code = "NO_GOLD_TO_SCORE"


def score(
    table: VotesTable, weights: Mapping[str, Weights], *, resamples: int = 1000, seed: int = 0
) -> Score:
    """Score members, majority and weights.

    Args:
        table: Votes; only the labelled cells count.
        weights: Weights by the name to report them under.
        resamples: Bootstrap resamples of the products.
        seed: Of the bootstrap.

    Raises:
        NothingToScoreError: No labelled cell.
        WeightsError: Weights for other members.
    """
    labelled = table.labelled
    if not labelled.any():
        raise NothingToScoreError("no cell of the table has gold: label some (`quorum label`)")
    entries = {"majority": equal_weights(table.members), **weights}
    right = [table.correct()[labelled].astype(np.float64)]
    for name, entry in entries.items():
        if entry.members != table.members:
            raise WeightsError(f"{name}: weights for {list(entry.members)}, votes of {list(table.members)}")
        right.append(hits(table, entry)[labelled][:, None].astype(np.float64))
    products = table.products[labelled]
    accuracies = means_over_products(np.concatenate(right, axis=1), products, TAIL_95, resamples, seed)
    return Score(
        members=dict(zip(table.members, accuracies, strict=False)),
        methods=dict(zip(entries, accuracies[len(table.members) :], strict=True)),
        gold_labels=int(labelled.sum()),
        gold_outside=table.gold_outside,
        products=len(np.unique(products)),
    )


def apply(table: VotesTable, weights: Weights) -> Decision:
    """Decide every cell of a table as the vote model would with these weights."""
    rule = as_rule(weights, table.group_names)
    scores = None if rule.scores is None else scores_or_none(table.scores)
    levels = None if scores is None else levels_of(scores)
    return decide(table.codes, rule, table.groups, table.parts, levels, evidence_of(table, weights))


def evidence_of(table: VotesTable, weights: Weights) -> Floats | None:
    """(n, m) evidence of the value that each member named, from the cells' texts; None: weights have none."""
    if not weights.evidence:
        return None
    evidence, found = Evidence(weights.evidence), np.zeros(table.codes.shape)
    for row, cell in enumerate(table.cells):
        counts = weights.parameters(cell.attribute, cell.category).text
        if counts and (text := evidence.of(cell.title)) is not None:
            points = text.of(counted(cell.values), len(cell.values))
            found[row] = [0.0 if value is None else points.get(value, 0.0) for value in cell.values]
    return found


def hits(table: VotesTable, weights: Weights) -> npt.NDArray[np.bool_]:
    """(n,) whether each cell is decided right; the members of the weights may stand in any order."""
    if weights.members != table.members:
        table = table.of_members(weights.members)
    return is_right(table, apply(table, weights))


def as_rule(weights: Weights, groups: Sequence[tuple[str, str]]) -> Rule:
    """The parameters of each (category, attribute) as the arrays of a rule."""
    rows = [weights.parameters(attribute, category) for category, attribute in groups]
    nones = [row.none_bias for row in rows]
    return Rule(
        np.array([row.weights for row in rows], np.float64),
        np.array([row.na_bias for row in rows], np.float64),
        None if None in nones else np.array(nones, np.float64),
        np.array([row.part_bias for row in rows], np.float64),
        _offsets(rows),
    )


def highest_weights(weights: Weights, groups: Sequence[tuple[str, str]]) -> Floats:
    """(g, m) highest weight that a vote of each member can have, per (category, attribute)."""
    return np.array([weights.parameters(name, category).highest() for category, name in groups], np.float64)


def _offsets(rows: Sequence[Parameters]) -> Floats | None:
    """(g, m, levels) offsets of scores; None where no row has any."""
    if not any(row.scores for row in rows):
        return None
    nothing = ((0.0,) * LEVELS,) * len(rows[0].weights)
    return np.array([row.scores or nothing for row in rows], np.float64)


def is_right(table: VotesTable, decision: Decision) -> npt.NDArray[np.bool_]:
    """(n,) whether the decision on each cell is right; False without gold or without an answer."""
    winner = decision.winner.astype(np.int64)
    named = np.maximum(table.right, 0) >> np.maximum(winner, 0) & 1
    return np.asarray((named == 1) & (winner >= 0))
