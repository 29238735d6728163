# SPDX-License-Identifier: Apache-2.0
"""Learn the weights by which one of several written texts is chosen (:mod:`quorum.decision.consensus`).

With references: the weights whose choices are most similar to them, by coordinate search. Without: a member
weighs as much as its texts are like those of the others on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quorum.decision import consensus
from quorum.decision.cell import Parameters
from quorum.votes.schema import Cell

Floats = npt.NDArray[np.float64]

GOLD_FOR_TEXTS = 10
"""Labelled cells from which weights are learned by their references."""
MOST_CELLS = 1_000
"""Cells that are compared, drawn at random of more."""
STEPS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights that are tried for a member, in turn."""
SHARPNESS = 50.0
"""Of the soft choice: a lead of 0.02 in expected similarity counts e times as much."""
LEAST_GAIN = 1e-4
_ROUNDS = 10
similarity = lru_cache(maxsize=1 << 17)(consensus.similarity)
"""Each method, and each fold, compares mostly the same texts."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class TextWeights:
    """Learned weights of an attribute of texts.

    Attributes:
        parameters: The weights; their mean is 1.
        references: Number of cells whose references taught them; 0: agreement did.
        similarity: Per member, the mean similarity of its texts to the references, or to the other texts; ():
            equal weights.
    """

    parameters: Parameters
    references: int
    similarity: tuple[float, ...]


def equal_texts(members: int) -> TextWeights:
    """Equal weights, as of majority."""
    return TextWeights(Parameters((1.0,) * members), 0, ())


def learn_texts(cells: Sequence[Cell], *, with_references: bool = True, seed: int = 0) -> TextWeights:
    """Learn weights of one attribute.

    Args:
        cells: Cells of kind "text"; gold are the references.
        with_references: Whether these may count.
        seed: Draws :data:`MOST_CELLS` cells of more.
    """
    labelled = [cell for cell in cells if cell.gold] if with_references else []
    with_gold = len(labelled) >= GOLD_FOR_TEXTS
    used = _drawn(labelled if with_gold else list(cells), seed)
    alike, present = _similarities(used)
    if with_gold:
        reward = np.array([[_to_gold(cell, value) for value in cell.values] for cell in used])
        weights, own = _by_references(alike, present, reward), _means(reward, present)
    else:
        others = present.sum(axis=1, keepdims=True) - 1.0
        mean = (alike.sum(axis=2) - 1.0) / np.maximum(others, 1.0)
        own = _means(mean, present & (others > 0))
        weights = own.copy()
    if not weights.sum():
        weights = np.ones_like(weights)
    weights = weights / weights.mean()
    figures = tuple(round(float(share), 4) for share in own)
    rounded = tuple(round(float(weight), _DIGITS) for weight in weights)
    return TextWeights(Parameters(rounded), len(used) if with_gold else 0, figures)


def _drawn(cells: list[Cell], seed: int) -> list[Cell]:
    if len(cells) <= MOST_CELLS:
        return cells
    rows = np.random.default_rng(seed).choice(len(cells), MOST_CELLS, replace=False)
    return [cells[row] for row in np.sort(rows).tolist()]


def _similarities(cells: Sequence[Cell]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(n, m, m) similarity of each pair of texts, 1 on the diagonal, 0 without a text; (n, m) texts there."""
    members = len(cells[0].values) if cells else 0
    alike = np.zeros((len(cells), members, members))
    for row, cell in enumerate(cells):
        for i, one in enumerate(cell.values):
            for j, other in enumerate(cell.values[: i + 1]):
                if one is not None and other is not None:
                    alike[row, i, j] = alike[row, j, i] = similarity(one, other)
    present = np.array([[value is not None for value in cell.values] for cell in cells], np.bool_)
    return alike, present.reshape(len(cells), members)


def _to_gold(cell: Cell, value: str | None) -> float:
    if value is None:
        return 0.0
    return sum(similarity(value, reference) for reference in cell.gold) / len(cell.gold)


def _means(figures: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """(m,) mean of each member's (n, m) figures where it has a text; 0 where it never has."""
    return np.asarray((figures * present).sum(axis=0) / np.maximum(present.sum(axis=0), 1))


def _by_references(alike: Floats, present: npt.NDArray[np.bool_], reward: Floats) -> Floats:
    """(m,) weights with the best soft choice, of searches from equal weights and from each member alone."""

    def value(weights: Floats) -> float:
        total = np.maximum(present @ weights, 1e-12)[:, None]
        lead = SHARPNESS * np.where(present, alike @ weights / total, -np.inf)
        top = lead.max(axis=1, keepdims=True)
        chance = np.exp(lead - np.where(np.isfinite(top), top, 0.0))
        shares = chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-12)
        return float((shares * reward).sum(axis=1).mean())

    members = alike.shape[1]
    starts = [np.ones(members), *(np.where(np.eye(members)[j] > 0, 4.0, 0.25) for j in range(members))]
    best = starts[0]
    for start in starts:
        found = _climb(value, start)
        # A start further down must be better, so that equal figures keep equal weights.
        if value(found) > value(best) + LEAST_GAIN:
            best = found
    return best


def _climb(value: Callable[[Floats], float], start: Floats) -> Floats:
    """Change one weight at a time to the best of :data:`STEPS` until nothing is gained."""
    weights, height = start.copy(), value(start)
    for _ in range(_ROUNDS):
        before = height
        for member in range(len(weights)):
            for step in STEPS:
                tried = weights.copy()
                tried[member] = step
                if tried.any() and (now := value(tried)) > height + LEAST_GAIN:
                    weights, height = tried, now
        if height <= before + LEAST_GAIN:
            break
    return weights
