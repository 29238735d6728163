# SPDX-License-Identifier: Apache-2.0
"""Draw the gold labels to learn from several times, and say how much figures depend on the draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.evaluation.heldout import HeldOut, training
from quorum.evaluation.stats import RESAMPLES, Estimate, bootstrap_means, percentile_interval
from quorum.votes import VotesError
from quorum.votes.table import VotesTable

USUAL_DRAWS = 20
GOLD_FREE = ("majority", "iwmv", "em")
"""Methods that do not learn from gold, so that draws of it make no difference."""

Draws = Sequence[HeldOut]
"""Held-out decisions of a method, by each draw of labels; one where it uses no gold, or all."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Held-out accuracy over draws of the labels to learn from: mean, lowest and highest."""

    mean: float
    lowest: float
    highest: float


def training_draws(
    table: VotesTable, fold: npt.NDArray[np.int64], labels: int | None, seed: int, draws: int
) -> list[list[VotesTable]]:
    """Per draw and fold, the table with the gold to learn from.

    One draw is that of :func:`quorum.evaluation.heldout.training`. Of several, each is an order of all
    labels, and a fold learns from the first of them outside it: the folds of a draw share most labels. If
    each fold had labels of its own, one draw would be a mean over as many sets of labels as there are folds,
    and draws would seem to matter less than they do.
    """
    if labels is None or draws == 1:
        return [training(table, fold, labels, seed)]
    rows, parts = np.flatnonzero(table.labelled), range(int(fold.max()) + 1)
    available = min(int((fold[rows] != part).sum()) for part in parts)
    if labels > available:
        raise VotesError(f"{labels} gold labels wanted, a fold has {available} to learn from: label more")
    tables = []
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(rows)
        tables.append([_with_first(table, order[fold[order] != part][:labels]) for part in parts])
    return tables


def _with_first(table: VotesTable, rows: npt.NDArray[np.int64]) -> VotesTable:
    keep = np.zeros(len(table), np.bool_)
    keep[rows] = True
    return table.with_gold(keep)


def right_cells(rows: npt.NDArray[np.int64], draws: Draws) -> Floats:
    """(n, d) score of the decision on each of the labelled cells, 1 for a right one, by each draw."""
    return np.column_stack([out.right[rows] for out in draws])


def spread(right: Floats) -> Spread:
    """The spread of (n, d) cells that are right or not, over the draws."""
    shares = right.mean(axis=0)
    return Spread(float(shares.mean()), float(shares.min()), float(shares.max()))


def resampled(columns: Sequence[Floats], products: npt.NDArray[np.int32], seed: int) -> Floats:
    """(R, c) means of c figures when products are drawn with replacement, and one of the draws of each.

    Args:
        columns: Per figure (n, 1) cells, or (n, d) for d draws of the labels that it was learned from; the
            same of equally many draws is taken for all.
        products: (n,) product of each cell.
        seed: Of all this.
    """
    means = bootstrap_means(np.concatenate(columns, axis=1), products, RESAMPLES, seed)
    widths = [column.shape[1] for column in columns]
    if max(widths) == 1:
        return means
    chance = np.random.default_rng([seed, 1]).random(RESAMPLES)
    begins = np.cumsum(np.array([0, *widths[:-1]], np.int64))
    chosen = begins + np.outer(chance, widths).astype(np.int64)
    return np.take_along_axis(means, chosen, axis=1)


def estimates(
    columns: Mapping[str, Floats], products: npt.NDArray[np.int32], seed: int
) -> dict[str, Estimate]:
    """Means of figures, over cells and draws, with 95 % intervals; see :func:`resampled`."""
    low, high = percentile_interval(resampled(list(columns.values()), products, seed))
    figures = zip(columns.items(), low.tolist(), high.tolist(), strict=True)
    return {name: Estimate(float(cells.mean()), *ends) for (name, cells), *ends in figures}


def in_words(labels: int, draws: int, spreads: Mapping[str, Spread]) -> list[str]:
    """Say what so many labels may give by each method, but not without parts of it."""
    return [
        f"{labels} labels of yours may give {100 * found.lowest:.1f} % to {100 * found.highest:.1f} % "
        f"({draws} draws, {name})"
        for name, found in spreads.items()
        if draws > 1 and "_without_" not in name
    ]
