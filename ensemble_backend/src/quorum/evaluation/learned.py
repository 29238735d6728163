# SPDX-License-Identifier: Apache-2.0
"""Judge weights that were just learned, on labels that did not teach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.arrays import Floats
from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation.answers import RIGHT, answer_scores, unit_of
from quorum.evaluation.by_attribute import Judgement, headline, judge, kinds_of
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.heldout import assign_folds
from quorum.evaluation.measures import Flags
from quorum.evaluation.stats import Estimate, means_over_products
from quorum.learning.by_kind import is_taught_by_gold
from quorum.records import Record
from quorum.votes.readable import readable
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
        unit: What the figures are: the share "right", or the mean score of answers of several kinds.
    """

    accuracy: Estimate
    majority: Estimate
    gold_labels: int
    products: int
    how: str
    compared: Mapping[str, Judgement]
    unit: str = RIGHT

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
    kinds: AnswerKinds | None = None,
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
        kinds: Kinds of the attributes; None: all have single values.
    """
    right: Floats | None
    known, recorded = kinds or {}, table
    table, _ = readable(table, known)
    used = used & table.labelled

    def scores(rule: Weights) -> Floats:
        return answer_scores(table, rule, known)

    if not is_taught_by_gold(weights):
        rows, right, how = table.labelled, scores(weights), "judged on labels, which it does not use"
    elif (rest := table.labelled & ~np.isin(table.products, table.products[used])).sum() >= used.sum():
        rows, right, how = rest, scores(weights), "judged on labels that were not learned from"
    else:
        rows, how = used, f"judged on {FOLDS} parts of the labels, each by weights of the others"
        right = _cross_validated(table.with_gold(used), relearn, seed, known)
    if right is None or not rows.any():
        return None
    plain = scores(equal_weights(table.members))
    against = {"majority": plain[rows]}
    for name, other in (others or {}).items():
        cells = scores(other)[rows]
        if (cells != plain[rows]).any() and not is_trained_on(recorded, other):
            against[name] = cells
    products, own, groups = table.products[rows], right[rows], kinds_of(table.with_gold(rows))
    accuracy, majority = means_over_products(np.column_stack([own, plain[rows]]), products, seed=seed)
    return LearnedResult(
        accuracy=accuracy,
        majority=majority,
        gold_labels=int(rows.sum()),
        products=len(np.unique(products)),
        how=how,
        compared={n: judge(groups, products, own, cells, n, seed=seed) for n, cells in against.items()},
        unit=unit_of(table.with_gold(rows), known),
    )


def _cross_validated(
    table: VotesTable, relearn: Callable[[VotesTable], Weights], seed: int, kinds: AnswerKinds
) -> Floats | None:
    """(n,) scores of decisions by weights that saw no gold of their fold; None: not to be tried."""
    labels, products = int(table.labelled.sum()), len(np.unique(table.products[table.labelled]))
    if labels > MOST_LABELS or len(table) > MOST_CELLS or products < FOLDS:
        return None
    fold, right = assign_folds(table.products, FOLDS, seed), np.zeros(len(table))
    for part in range(FOLDS):
        seen, test = table.with_gold(table.labelled & (fold != part)), fold == part
        if not seen.labelled.any():
            return None
        right[test] = answer_scores(table, relearn(seen), kinds)[test]
    return right
