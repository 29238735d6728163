# SPDX-License-Identifier: Apache-2.0
"""Score answers against gold, by the kind of the attribute; figures in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quorum.evaluation.kinds import KINDS
from quorum.evaluation.task_scores import score_answers
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.votes.schema import Cell

Answers = Sequence[str | None]
"""One per row, as VALUES spells it; None: it could not be read."""


def figures(attribute: Attribute, rows: Sequence[TrainingRow], answers: Answers) -> dict[str, float]:
    """Score the answers to one attribute as ``quorum evaluate`` does.

    Args:
        attribute: With its kind.
        rows: At least one.
        answers: As many.

    Returns:
        The figures of :func:`quorum.evaluation.task_scores.measures` that are defined, the first one named
        :func:`headline`; and ``parse_share``, of answers that could be read. Where neither gold nor answers
        name anything, F1 is 0 / 0: then ``f1`` is ``exact``, the share of answers that are right.
    """
    cells = [Cell(row.product, row.category, row.text, row.attribute, (), row.answers) for row in rows]
    found = score_answers(attribute.answer_kind, cells, answers)
    main = headline(attribute)
    if math.isnan(found[main]):
        found[main] = found["exact"]
    defined = {name: value for name, value in found.items() if not math.isnan(value)}
    return {**defined, "parse_share": sum(answer is not None for answer in answers) / len(answers)}


def headline(attribute: Attribute) -> str:
    """The name of the figure by which weights are chosen."""
    return KINDS[attribute.answer_kind].headline


def by_task(
    attributes: Mapping[str, Attribute], rows: Sequence[TrainingRow], answers: Answers
) -> dict[str, dict[str, float]]:
    """Figures of each attribute that rows ask for."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.attribute, []).append(place)
    return {
        name: figures(attributes[name], [rows[i] for i in found], [answers[i] for i in found])
        for name, found in places.items()
    }


def pooled(scores: Mapping[str, Mapping[str, float]], rows: Sequence[TrainingRow]) -> dict[str, float]:
    """Means of figures that all tasks have, weighted by rows."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.attribute] = counts.get(row.attribute, 0) + 1
    shared: Any = set.intersection(*(set(found) for found in scores.values())) if scores else set()
    total = sum(counts[task] for task in scores)
    return {
        name: sum(found[name] * counts[task] for task, found in scores.items()) / total
        for name in sorted(shared)
    }
