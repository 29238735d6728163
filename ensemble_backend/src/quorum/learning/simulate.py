# SPDX-License-Identifier: Apache-2.0
"""Simulate members with known accuracies, to compare methods with the best possible decision."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Floats
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import ABSTAIN, Codes

Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int16]
Truth = npt.NDArray[np.int64]


def independent(
    rng: np.random.Generator, cells: int, accuracy: Floats, values: int, missing: float = 0.1
) -> tuple[Labels, Truth]:
    """Draw one-coin members that err independently.

    Args:
        rng: Source of randomness.
        cells: Number of cells, n.
        accuracy: (m,) or (n, m) probability of the right value; else one of the others, uniformly.
        values: K, number of possible values, coded 1..K.
        missing: Probability of an abstention.

    Returns:
        (n, m) codes and (n,) truth.
    """
    members = accuracy.shape[-1]
    truth = rng.integers(1, values + 1, cells)
    wrong = rng.integers(1, values, (cells, members))
    wrong += wrong >= truth[:, None]
    codes = np.where(rng.random((cells, members)) < accuracy, truth[:, None], wrong)
    codes[rng.random((cells, members)) < missing] = ABSTAIN
    return codes.astype(np.int16), truth


def with_bloc(
    rng: np.random.Generator, cells: int, accuracy: Floats, values: int, bloc: Sequence[int], share: float
) -> tuple[Labels, Truth]:
    """Draw (n, m) codes of one-coin members of which some repeat each other, and the (n,) truth.

    With probability ``share``, two members of the bloc use the same draw, for luck and for the wrong value.

    Args:
        rng: Source of randomness.
        cells: Number of cells, n.
        accuracy: (m,) probability of the right value.
        values: K, number of possible values, coded 1..K.
        bloc: Members that repeat each other.
        share: Probability that a pair of them does, in [0, 1].
    """
    members = len(accuracy)
    truth = rng.integers(1, values + 1, cells)
    luck = rng.random((cells, members))
    wrong = rng.integers(1, values, (cells, members))
    common_luck, common_wrong = rng.random(cells), rng.integers(1, values, cells)
    joins = rng.random((cells, members)) < np.sqrt(share) * np.isin(np.arange(members), bloc)
    luck = np.where(joins, common_luck[:, None], luck)
    wrong = np.where(joins, common_wrong[:, None], wrong)
    wrong += wrong >= truth[:, None]
    return np.where(luck < accuracy, truth[:, None], wrong).astype(np.int16), truth


def bayes_winner(
    hist: Histogram, accuracy: Floats, values: int, bloc: Sequence[int], share: float
) -> npt.NDArray[np.int64]:
    """(r,) member whose value is most probable by the true model of :func:`with_bloc`, with its arguments.

    No rule is right more often.
    """
    codes, m = hist.codes, hist.members
    chance = np.zeros(codes.shape)
    joins = np.sqrt(share)
    for candidate in range(m):
        right = codes == codes[:, candidate : candidate + 1]
        single = np.where(right, accuracy, (1.0 - accuracy) / (values - 1))
        for size in range(len(bloc) + 1):
            for joined in itertools.combinations(bloc, size):
                inside = np.isin(np.arange(m), joined)
                together = joins**size * (1.0 - joins) ** (len(bloc) - size)
                apart = np.where(inside, 1.0, single).prod(axis=1)
                chance[:, candidate] += together * apart * _alike(codes, right, accuracy, inside, values)
    return np.asarray(np.where(codes == ABSTAIN, -1.0, chance).argmax(axis=1))


def _alike(codes: Codes, right: Flags, accuracy: Floats, inside: Flags, values: int) -> Floats:
    """(r,) probability of the votes of members with one draw: right where it is below their accuracy."""
    hits, misses = right & inside, ~right & inside
    room = np.where(hits, accuracy, 1.0).min(axis=1) - np.where(misses, accuracy, 0.0).max(axis=1)
    low, high = (np.where(misses, codes, fill) for fill in (np.int8(127), np.int8(-128)))
    alike = ~misses.any(axis=1) | (low.min(axis=1) == high.max(axis=1))
    return np.asarray(np.maximum(room, 0.0) * alike * np.where(misses.any(axis=1), 1.0 / (values - 1), 1.0))


def accuracy_percent(decision: Decision, codes: npt.NDArray[np.int16], truth: Truth) -> float:
    """Share of cells decided right, in percent; no answer is not right."""
    winner = decision.winner.astype(np.int64)
    chosen = codes[np.arange(len(codes)), np.maximum(winner, 0)]
    return float(100.0 * np.mean((winner >= 0) & (chosen == truth)))
