# SPDX-License-Identifier: Apache-2.0
"""Compare new weights with the running ones on held-out labelled votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation.answers import RIGHT, answer_scores, unit_of
from quorum.evaluation.by_attribute import Judgement, difference, headline, judge, kinds_of
from quorum.evaluation.stats import Estimate
from quorum.reports.figures import points_in_words
from quorum.votes.readable import readable
from quorum.votes.table import VotesTable

RUNNING = "the running version"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of weights on the same labelled cells.

    Attributes:
        new: Accuracy of the new weights, in [0, 1]; ``running``: of the running ones.
        delta: ``new - running``; ``low`` to ``high`` is its 95 % interval, bootstrapped over products.
        gold_labels: Number of the cells.
        compared: The new weights against the running ones and against majority, by attribute and category.
        remark: How many votes were judged in another spelling than recorded; "" if none were.
        unit: What the figures are: the share "right", or the mean score of answers of several kinds.
    """

    new: float
    running: float
    delta: float
    low: float
    high: float
    gold_labels: int
    compared: Mapping[str, Judgement]
    remark: str = ""
    unit: str = RIGHT

    @property
    def worse(self) -> list[str]:
        """Attributes on which the new weights are worse than the running ones, beyond the margin."""
        return self.compared[RUNNING].worse

    @property
    def warning(self) -> str:
        """The attributes that are worse, and than what; "" if there is none."""
        return headline(self.compared)

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.new:.1%} {self.unit} against {self.running:.1%} of the running version, difference "
            f"{points_in_words(Estimate(self.delta, self.low, self.high))} (95 % interval, "
            f"{self.gold_labels} gold labels)"
        )


def compare(
    new: Weights,
    running: Weights,
    table: VotesTable,
    margin: float = 0.0,
    kinds: AnswerKinds | None = None,
    votes_before: VotesTable | None = None,
) -> Comparison:
    """Decide every labelled cell of ``table`` with both; raises ValueError if no cell has gold.

    ``margin`` is how much lower the new weights may be on an attribute, in [0, 1], and not be called worse.
    ``kinds`` are those of attributes without single values, of which answers score between 0 and 1
    (:mod:`quorum.evaluation.answers`). ``votes_before`` has the same cells with the votes that the
    running weights count, where those are of other members.
    """
    table, _ = readable(table, kinds or {})
    votes = readable(votes_before, kinds or {})[0] if votes_before else table
    labelled = table.labelled
    if not labelled.any():
        raise ValueError("no cell of the held-out votes has gold")
    rules = {"new": new, RUNNING: running, "majority": equal_weights(table.members)}
    tables = {RUNNING: votes}
    right = {
        name: answer_scores(tables.get(name, table), rule, kinds or {})[labelled]
        for name, rule in rules.items()
    }
    products, own = table.products[labelled], right.pop("new")
    groups = kinds_of(table)
    compared = {
        name: judge(groups, products, own, other, name, margin=margin) for name, other in right.items()
    }
    if np.array_equal(right[RUNNING], right["majority"]):
        del compared["majority"]
    overall, now, before = difference(own - right[RUNNING], products), own.mean(), right[RUNNING].mean()
    return Comparison(
        *(float(now), float(before), float(now - before), overall.low, overall.high),
        gold_labels=len(own),
        compared=compared,
        unit=unit_of(table, kinds or {}),
    )
