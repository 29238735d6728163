# SPDX-License-Identifier: Apache-2.0
"""Judge weights that were just learned, on labels that did not teach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation.by_attribute import Judgement, headline, judge, kinds_of
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.draws import GOLD_FREE
from quorum.evaluation.heldout import assign_folds
from quorum.evaluation.measures import Flags
from quorum.evaluation.score import hits
from quorum.evaluation.stats import Estimate, means_over_products
from quorum.records import Record
from quorum.votes.table import VotesTable

FOLDS = 5
MOST_LABELS = 1_500
"""Labels, and cells, up to which weights are learned again for each fold: about two seconds."""
MOST_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class LearnedResult(Record):
    """Held-out figures of weights that were just learned; shares in [0, 1], 95 % intervals over products.

    Attributes:
        accuracy: Of the weights; ``majority``: of one vote each, on the same cells.
        gold_labels: Number of these labelled cells, of ``products`` products.
        how: Why these labels did not teach the weights, for people.
        compared: Against majority and the given others, by attribute and category.
    """

    accuracy: Estimate
    majority: Estimate
    gold_labels: int
    products: int
    how: str
    compared: Mapping[str, Judgement]

    @property
    def warning(self) -> str:
        """The attributes that are worse, and than what; "" if there is none."""
        words = headline(self.compared)
        return f"{words}; {self.how}" if words else ""


def judge_learned(
    table: VotesTable,
    weights: Weights,
    used: Flags,
    relearn: Callable[[VotesTable], Weights],
    others: Mapping[str, Weights] | None = None,
    seed: int = 0,
) -> LearnedResult | None:
    """Judge weights on labels that they were not learned from; None: there are none, or too many to try.

    Methods without gold are judged on all labels. Where only some labels were used, the weights are judged on
    those of other products, if these are at least as many. Else weights are learned anew for each of five
    folds of products, from the labels of the others, up to :data:`MOST_LABELS` labels.

    Args:
        table: The votes, with all labels.
        weights: The weights, learned from this table.
        used: (n,) the labelled cells that they were learned from.
        relearn: Learns in the same way from this table with less gold.
        others: Weights to compare with too, by their names; those learned from this table are left out.
        seed: Of folds and intervals.
    """
    right: Flags | None
    if weights.method in GOLD_FREE:
        rows, right, how = table.labelled, hits(table, weights), "judged on labels, which it does not use"
    elif (rest := table.labelled & ~np.isin(table.products, table.products[used])).sum() >= used.sum():
        rows, right, how = rest, hits(table, weights), "judged on labels that were not learned from"
    else:
        rows, how = used, f"judged on {FOLDS} parts of the labels, each by weights of the others"
        right = _cross_validated(table.with_gold(used), relearn, seed)
    if right is None or not rows.any():
        return None
    plain = hits(table, equal_weights(table.members))
    against = {"majority": plain[rows]}
    for name, other in (others or {}).items():
        cells = hits(table, other)[rows]
        if (cells != plain[rows]).any() and not is_trained_on(table, other):
            against[name] = cells
    products, own, kinds = table.products[rows], right[rows], kinds_of(table.with_gold(rows))
    accuracy, majority = means_over_products(np.column_stack([own, plain[rows]]), products, seed=seed)
    return LearnedResult(
        accuracy=accuracy,
        majority=majority,
        gold_labels=int(rows.sum()),
        products=len(np.unique(products)),
        how=how,
        compared={n: judge(kinds, products, own, cells, n, seed=seed) for n, cells in against.items()},
    )


def _cross_validated(table: VotesTable, relearn: Callable[[VotesTable], Weights], seed: int) -> Flags | None:
    """(n,) which cells are decided right by weights that saw no gold of their fold; None: not to be tried."""
    labels, products = int(table.labelled.sum()), len(np.unique(table.products[table.labelled]))
    if labels > MOST_LABELS or len(table) > MOST_CELLS or products < FOLDS:
        return None
    fold, right = assign_folds(table.products, FOLDS, seed), np.zeros(len(table), np.bool_)
    for part in range(FOLDS):
        seen, test = table.with_gold(table.labelled & (fold != part)), fold == part
        if not seen.labelled.any():
            return None
        right[test] = hits(table, relearn(seen))[test]
    return right
