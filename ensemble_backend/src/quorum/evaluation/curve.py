# SPDX-License-Identifier: Apache-2.0
"""Measure a method by the number of gold labels that it learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quorum.decision.answer_kinds import AnswerKinds
from quorum.evaluation.draws import Spread, spread, training_draws
from quorum.evaluation.heldout import assign_folds, held_out
from quorum.learning.by_kind import learn
from quorum.votes.table import VotesTable


def learning_curve(
    table: VotesTable,
    sizes: Sequence[int],
    method: str = "loglinear",
    folds: int = 5,
    seed: int = 0,
    *,
    draws: int = 1,
    value_counts: Mapping[str, int] | None = None,
    settings: Mapping[str, Any] | None = None,
    kinds: AnswerKinds | None = None,
) -> dict[int, Spread]:
    """Held-out accuracy of a method by the gold labels it learned from; sizes too large are left out.

    ``value_counts``, ``settings`` and ``kinds`` as in :func:`quorum.learning.by_kind.learn`; ``draws`` is
    the number of times that the labels are drawn.
    """
    fold = assign_folds(table.products, folds, seed)
    rows = np.flatnonzero(table.labelled)
    available = min(int(table.labelled[fold != part].sum()) for part in range(folds))
    curve = {}
    for size in sizes:
        if size <= available:
            right = []
            for seen in training_draws(table, fold, size, seed, draws):
                learned = [
                    learn(t, method, kinds=kinds, value_counts=value_counts, settings=settings) for t in seen
                ]
                right.append(held_out(table, fold, learned, kinds).right[rows])
            curve[size] = spread(np.column_stack(right))
    return curve
