# SPDX-License-Identifier: Apache-2.0
"""Compare new weights with the running ones on held-out labelled votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.weights import Weights
from quorum.evaluation.score import apply, is_right
from quorum.evaluation.stats import mean_over_products
from quorum.votes.table import VotesTable


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of weights on the same labelled cells.

    Attributes:
        new: Accuracy of the new weights, in [0, 1]; ``running``: of the running ones.
        delta: ``new - running``; ``low`` to ``high`` is its 95 % interval, bootstrapped over products.
        gold_labels: Number of the cells.
    """

    new: float
    running: float
    delta: float
    low: float
    high: float
    gold_labels: int

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.new:.1%} right against {self.running:.1%} of the running version, difference "
            f"{100 * self.delta:+.1f} points (95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}, "
            f"{self.gold_labels} gold labels)"
        )


def compare(new: Weights, running: Weights, table: VotesTable) -> Comparison:
    """Decide every labelled cell of ``table`` with both; raises ValueError if no cell has gold."""
    labelled = table.labelled
    if not labelled.any():
        raise ValueError("no cell of the held-out votes has gold")
    right = np.array([is_right(table, apply(table, w))[labelled] for w in (new, running)], np.float64)
    difference = mean_over_products(right[0] - right[1], table.products[labelled])
    now, before = right.mean(axis=1).tolist()
    return Comparison(now, before, now - before, difference.low, difference.high, int(labelled.sum()))
