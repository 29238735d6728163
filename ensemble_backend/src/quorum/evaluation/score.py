# SPDX-License-Identifier: Apache-2.0
"""How often members and weights are right on the labelled cells of a table, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Rule, decide
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.votes.table import VotesTable
from quorum_contract.errors import QuorumError

# Resamples times products, 8 bytes each: a large table is drawn in parts.
_DRAWN_AT_ONCE = 5_000_000


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers with its 95 % interval, bootstrapped over products."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy of every member and every set of weights on the same labelled cells.

    Attributes:
        members: By member name; an abstention is not right.
        methods: By the name given; "majority" is always there.
        gold_labels: Number of labelled cells.
        gold_outside: Of these, cells whose gold no member named.
        products: Number of products that they belong to.
    """

    members: Mapping[str, Accuracy]
    methods: Mapping[str, Accuracy]
    gold_labels: int
    gold_outside: int
    products: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


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

    Returns:
        Accuracies with 95 % intervals.

    Raises:
        NothingToScoreError: No labelled cell.
        WeightsError: Weights for other members.
    """
    labelled = table.labelled
    if not labelled.any():
        raise NothingToScoreError("no cell of the table has gold: label some (`quorum label`)")
    entries = {"majority": equal_weights(table.members), **weights}
    hits = [table.correct()[labelled].astype(np.float64)]
    for name, entry in entries.items():
        if entry.members != table.members:
            raise WeightsError(f"{name}: weights for {list(entry.members)}, votes of {list(table.members)}")
        hits.append(is_right(table, apply(table, entry))[labelled][:, None].astype(np.float64))
    columns = np.concatenate(hits, axis=1)
    products = table.products[labelled]
    low, high = np.percentile(bootstrap_means(columns, products, resamples, seed), [2.5, 97.5], axis=0)
    mean = columns.mean(axis=0)
    names = [*table.members, *entries]
    accuracies = [Accuracy(float(mean[i]), float(low[i]), float(high[i])) for i in range(len(names))]
    m = len(table.members)
    return Score(
        members=dict(zip(table.members, accuracies[:m], strict=True)),
        methods=dict(zip(entries, accuracies[m:], strict=True)),
        gold_labels=int(labelled.sum()),
        gold_outside=table.gold_outside,
        products=len(np.unique(products)),
    )


def apply(table: VotesTable, weights: Weights) -> Decision:
    """Decide every cell of a table as the vote model would with these weights."""
    rows = [weights.parameters(attribute, category) for category, attribute in table.group_names]
    return decide(table.codes, as_rule(rows), table.groups, table.parts)


def as_rule(rows: list[Any]) -> Rule:
    """Stack :class:`quorum.decision.cell.Parameters` into the arrays of a rule."""
    nones = [row.none_bias for row in rows]
    return Rule(
        np.array([row.weights for row in rows], np.float64),
        np.array([row.na_bias for row in rows], np.float64),
        None if None in nones else np.array(nones, np.float64),
        np.array([row.part_bias for row in rows], np.float64),
    )


def is_right(table: VotesTable, decision: Decision) -> npt.NDArray[np.bool_]:
    """(n,) whether the decision on each cell is right; False without gold or without an answer."""
    winner = decision.winner.astype(np.int64)
    mask = np.maximum(table.right, 0)
    return np.asarray(((mask >> np.maximum(winner, 0)) & 1).astype(np.bool_) & (winner >= 0))


def bootstrap_means(
    columns: npt.NDArray[np.float64], products: npt.NDArray[np.int32], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Means of each column when whole products are drawn with replacement.

    Args:
        columns: (n, c) values per cell.
        products: (n,) product of each cell.
        resamples: Number of draws, R.
        seed: Of the draws.

    Returns:
        (R, c) means.
    """
    _, index = np.unique(products, return_inverse=True)
    index = index.reshape(-1)
    size = int(index.max()) + 1
    sums = np.zeros((size, columns.shape[1]))
    np.add.at(sums, index, columns)
    cells = np.bincount(index, minlength=size).astype(np.float64)
    rng, chances = np.random.default_rng(seed), np.full(size, 1.0 / size)
    means = np.empty((resamples, columns.shape[1]))
    at_once = max(1, _DRAWN_AT_ONCE // size)
    for begin in range(0, resamples, at_once):
        draws = rng.multinomial(size, chances, min(at_once, resamples - begin))
        means[begin : begin + at_once] = (draws @ sums) / (draws @ cells)[:, None]
    return means
