# SPDX-License-Identifier: Apache-2.0
"""Judge given weights on labelled votes, over all and by attribute, without learning anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.forms import FORMS
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.evaluation.answers import decide_answers, is_written, member_answer_scores, unit_of
from quorum.evaluation.by_attribute import Judgement, difference, headline, judge, kinds_of
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.score import NothingToScoreError
from quorum.evaluation.stats import Estimate, means_over_products
from quorum.evaluation.tasks import TaskResult, best_member, task_results
from quorum.records import Record
from quorum.reports.figures import points_in_words
from quorum.votes.readable import readable
from quorum.votes.table import VotesTable


@dataclass(frozen=True, slots=True)
class WeightsEvaluation(Record):
    """Figures of given weights on labelled cells; shares in [0, 1], 95 % intervals over products.

    Attributes:
        members: Accuracy per member; ``best_member`` is the best of them, in hindsight.
        majority: Accuracy of one vote each.
        weights: Accuracy of the weights.
        delta_majority: Accuracy of the weights minus that of majority.
        delta_best_member: Accuracy of the weights minus that of the best member.
        compared: Against majority and the given others, by attribute and category.
        to_best_member: The same against the best member.
        gold_labels: Labelled cells, of ``products`` products.
        gold_outside: Of these, cells whose gold no member named; written texts are left out.
        method: How the weights were learned.
        trained_on: Whether the weights were learned from these very labels, so that figures are too high; see
            :func:`quorum.evaluation.canary.is_trained_on`.
        verdict: The comparison in words, with the attributes that are worse.
        tasks: Attribute -> the measures of its kind, best member and encoders first; attributes of single
            values are measured together.
    """

    members: Mapping[str, Estimate]
    best_member: str
    majority: Estimate
    weights: Estimate
    delta_majority: Estimate
    delta_best_member: Estimate
    compared: Mapping[str, Judgement]
    to_best_member: Judgement
    gold_labels: int
    gold_outside: int
    products: int
    method: str
    trained_on: bool
    verdict: str
    tasks: Mapping[str, TaskResult]

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
            | {"by_attribute": self._by_attribute()}
        )

    def _by_attribute(self) -> dict[str, dict[str, Any]]:
        """Figures per attribute of the weights, of majority and of the best member."""
        best = self.to_best_member.by_attribute
        return {
            name: {
                "weights": found.accuracy,
                "majority": found.other,
                "best_member": best[name].other,
                "cells": found.cells,
                "products": found.products,
                "delta_majority": found.difference.value,
                "delta_majority_ci95": [found.difference.low, found.difference.high],
                "is_worse": found.verdict == "worse",
                "verdict": found.verdict,
            }
            for name, found in self.compared["majority"].by_attribute.items()
        }


def evaluate_weights(
    table: VotesTable,
    weights: Weights,
    *,
    others: Mapping[str, Weights] | None = None,
    seed: int = 0,
    kinds: AnswerKinds | None = None,
    encoders: Collection[str] = (),
) -> WeightsEvaluation:
    """Decide every labelled cell with weights, with majority and by each member, and compare.

    Args:
        table: Votes with gold, of the members of the weights in any order.
        weights: The weights.
        others: Weights of the same members to compare with by attribute, by their names, as those that are
            live.
        seed: Of the intervals.
        kinds: Kinds of the attributes; None: all have single values.
        encoders: Members that are encoders.

    Raises:
        NothingToScoreError: No labelled cell.
        WeightsError: The weights are for other members.
    """
    if sorted(table.members) != sorted(weights.members):
        raise WeightsError(
            f"the weights are for {', '.join(weights.members)}, the votes are those of "
            f"{', '.join(table.members)}; name votes of the same members, or learn weights from these"
        )
    known, trained_on = kinds or {}, is_trained_on(table, weights)
    table, _ = readable(table.of_members(weights.members), known)
    if not table.labelled.any():
        raise NothingToScoreError(
            "no cell of the table has gold that can be read: label some (`quorum label`)"
        )
    labelled = table.labelled
    rules = {"majority": equal_weights(table.members), **(others or {}), "weights": weights}
    answers = {name: decide_answers(table, rule, known) for name, rule in rules.items()}
    decided = {name: own.scores[labelled] for name, own in answers.items()}
    voted = member_answer_scores(table, known)[labelled]
    right = np.column_stack([voted, decided["majority"], decided["weights"]])
    products = table.products[labelled]
    *members, majority, own = means_over_products(right, products, seed=seed)
    tasks = task_results(
        table, known, {name: [own.values] for name, own in answers.items()},
        dict.fromkeys(FORMS, "weights"), encoders, seed,
    )  # fmt: skip
    by_headline = best_member(tasks)
    best = table.members.index(by_headline) if by_headline else int(np.argmax([m.value for m in members]))
    groups = kinds_of(table)
    judged = {
        name: judge(groups, products, decided["weights"], cells, name, seed=seed)
        for name, cells in decided.items()
        if name == "majority" or not (name == "weights" or np.array_equal(cells, decided["majority"]))
    }
    to_best_member = judge(groups, products, decided["weights"], voted[:, best], "best", seed=seed)
    to_majority = difference(right[:, -1] - right[:, -2], products, seed)
    to_best = difference(right[:, -1] - voted[:, best], products, seed)
    return WeightsEvaluation(
        members=dict(zip(table.members, members, strict=True)),
        best_member=table.members[best],
        majority=majority,
        weights=own,
        delta_majority=to_majority,
        delta_best_member=to_best,
        compared=judged,
        to_best_member=replace(to_best_member, against=table.members[best]),
        gold_labels=len(right),
        gold_outside=int(((table.right == 0) & ~is_written(table, known)).sum()),
        products=len(np.unique(products)),
        method=weights.method,
        trained_on=trained_on,
        verdict=_verdict(own, to_majority, judged, trained_on, unit_of(table, known)),
        tasks=tasks,
    )


def _share(accuracy: Estimate) -> dict[str, Any]:
    return {"accuracy": accuracy.value, "ci95": [accuracy.low, accuracy.high]}


def _verdict(
    own: Estimate, delta: Estimate, compared: Mapping[str, Judgement], trained_on: bool, unit: str
) -> str:
    if delta.low > 0.0:
        words = "better than majority"
    elif delta.high < 0.0:
        words = "worse than majority"
    else:
        words = "cannot be told from majority"
    worse = compared["majority"].worse_in_words()
    others = headline({name: found for name, found in compared.items() if name != "majority"})
    end = (f"; worse on {worse}" if worse else "") + (f"; {others}" if others else "")
    end += "; learned from these very labels, so too good" if trained_on else ""
    return f"{100 * own.value:.1f} % {unit}, {words}: {points_in_words(delta)}{end}"
