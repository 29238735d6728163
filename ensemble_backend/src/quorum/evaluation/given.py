# SPDX-License-Identifier: Apache-2.0
"""Judge given weights on labelled votes, over all and by attribute, without learning anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.score import NothingToScoreError, apply, is_right
from quorum.evaluation.stats import (
    TAIL_95,
    Estimate,
    is_surely_above,
    means_over_products,
    unseen_share,
)
from quorum.records import Record, plain
from quorum.votes.table import VotesTable


@dataclass(frozen=True, slots=True)
class AttributeResult:
    """Shares of the labelled cells of one attribute that are decided right.

    Attributes:
        best_member: Accuracy of the member that is best on all attributes together.
        cells: Number of labelled cells, of ``products`` products.
        delta_majority: Accuracy of the weights minus that of majority, with its 95 % interval.
        is_worse: Whether the weights are worse than majority: the interval is below 0, and so many more
            products lose than gain that chance alone would hardly do it (a sign test).
    """

    weights: float
    majority: float
    best_member: float
    cells: int
    products: int
    delta_majority: Estimate
    is_worse: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        delta = self.delta_majority
        return {
            "weights": self.weights,
            "majority": self.majority,
            "best_member": self.best_member,
            "cells": self.cells,
            "products": self.products,
            "delta_majority": delta.value,
            "delta_majority_ci95": [delta.low, delta.high],
            "is_worse": self.is_worse,
        }


@dataclass(frozen=True, slots=True)
class WeightsEvaluation(Record):
    """Figures of given weights on labelled cells; shares in [0, 1], 95 % intervals over products.

    Attributes:
        members: Accuracy per member; ``best_member`` is the best of them, in hindsight.
        majority: Accuracy of one vote each.
        weights: Accuracy of the weights.
        delta_majority: Accuracy of the weights minus that of majority.
        delta_best_member: Accuracy of the weights minus that of the best member.
        by_attribute: Figures per attribute.
        gold_labels: Labelled cells, of ``products`` products.
        gold_outside: Of these, cells whose gold no member named.
        method: How the weights were learned.
        trained_on: Whether the weights were learned from these very labels, so that figures are too high; see
            :func:`quorum.evaluation.canary.is_trained_on`.
        verdict: The comparison in words, with the attributes that are worse.
    """

    members: Mapping[str, Estimate]
    best_member: str
    majority: Estimate
    weights: Estimate
    delta_majority: Estimate
    delta_best_member: Estimate
    by_attribute: Mapping[str, AttributeResult]
    gold_labels: int
    gold_outside: int
    products: int
    method: str
    trained_on: bool
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        shares = {"majority": self.majority, "weights": self.weights}
        deltas = {"delta_majority": self.delta_majority, "delta_best_member": self.delta_best_member}
        return (
            Record.to_json(self)
            | {"members": {name: _share(accuracy) for name, accuracy in self.members.items()}}
            | {name: _share(accuracy) for name, accuracy in shares.items()}
            | {name: delta.value for name, delta in deltas.items()}
            | {f"{name}_ci95": [delta.low, delta.high] for name, delta in deltas.items()}
            | {"by_attribute": plain(self.by_attribute)}
        )


def evaluate_weights(table: VotesTable, weights: Weights, *, seed: int = 0) -> WeightsEvaluation:
    """Decide every labelled cell with weights, with majority and by each member, and compare.

    Args:
        table: Votes with gold, of the members of the weights in any order.
        weights: The weights.
        seed: Of the intervals.

    Raises:
        NothingToScoreError: No labelled cell.
        WeightsError: The weights are for other members.
    """
    if sorted(table.members) != sorted(weights.members):
        raise WeightsError(
            f"the weights are for {', '.join(weights.members)}, the votes are those of "
            f"{', '.join(table.members)}; name votes of the same members, or learn weights from these"
        )
    if not table.labelled.any():
        raise NothingToScoreError("no cell of the table has gold: label some (`quorum label`)")
    trained_on, table = is_trained_on(table, weights), table.of_members(weights.members)
    labelled = table.labelled
    decided = [is_right(table, apply(table, entry)) for entry in (equal_weights(table.members), weights)]
    right = np.column_stack([table.correct(), *decided])[labelled].astype(np.float64)
    products = table.products[labelled]
    *members, majority, own = means_over_products(right, products, seed=seed)
    best = int(np.argmax([member.value for member in members]))
    attributes = np.array([cell.attribute for cell in table.cells])[labelled]
    columns = right[:, [-1, -2, best]]
    rows = {str(name): attributes == name for name in np.unique(attributes)}
    by_attribute = {name: _attribute(columns[at], products[at], seed) for name, at in rows.items()}
    to_majority = difference(right[:, -1] - right[:, -2], products, seed)
    to_best = difference(right[:, -1] - right[:, best], products, seed)
    return WeightsEvaluation(
        members=dict(zip(table.members, members, strict=True)),
        best_member=table.members[best],
        majority=majority,
        weights=own,
        delta_majority=to_majority,
        delta_best_member=to_best,
        by_attribute=by_attribute,
        gold_labels=len(right),
        gold_outside=table.gold_outside,
        products=len(np.unique(products)),
        method=weights.method,
        trained_on=trained_on,
        verdict=_verdict(own, to_majority, by_attribute, trained_on),
    )


def difference(cells: Floats, products: npt.NDArray[np.int32], seed: int = 0) -> Estimate:
    """Mean of differences in [-1, 1] per cell with its 95 % interval.

    Where all cells are alike, a bootstrap has no width: then other products may yet differ, by as much as
    :func:`quorum.evaluation.stats.unseen_share`.
    """
    (estimate,) = means_over_products(cells[:, None], products, seed=seed)
    if np.ptp(cells) > 0:
        return estimate
    unseen = unseen_share(len(np.unique(products)), TAIL_95)
    value = estimate.value
    return Estimate(value, max(-1.0, value - unseen), min(1.0, value + unseen))


def _attribute(columns: Floats, products: npt.NDArray[np.int32], seed: int) -> AttributeResult:
    """Figures of (n, 3) cells of one attribute, decided by weights, majority and best member."""
    own, majority, best = columns.mean(axis=0).tolist()
    gains = columns[:, 0] - columns[:, 1]
    delta = difference(gains, products, seed)
    _, number = np.unique(products, return_inverse=True)
    sums = np.bincount(number, gains)
    lost, changed = int((sums < 0).sum()), int((sums != 0).sum())
    is_worse = delta.high < 0 and is_surely_above(lost, changed, 0.5, TAIL_95)
    return AttributeResult(own, majority, best, len(gains), len(sums), delta, is_worse)


def _share(accuracy: Estimate) -> dict[str, Any]:
    return {"accuracy": accuracy.value, "ci95": [accuracy.low, accuracy.high]}


def _verdict(
    own: Estimate, delta: Estimate, attributes: Mapping[str, AttributeResult], trained_on: bool
) -> str:
    if delta.low > 0.0:
        words = "better than majority"
    elif delta.high < 0.0:
        words = "worse than majority"
    else:
        words = "cannot be told from majority"
    worse = [
        f"{name} ({_points(found.delta_majority)})" for name, found in attributes.items() if found.is_worse
    ]
    end = f"; worse on {', '.join(worse)}" if worse else ""
    end += "; learned from these very labels, so too good" if trained_on else ""
    return f"{100 * own.value:.1f} % right, {words}: {_points(delta)}{end}"


def _points(delta: Estimate) -> str:
    return f"{100 * delta.value:+.1f} points [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}]"
