# SPDX-License-Identifier: Apache-2.0
"""Simulated members whose accuracies are known: the measure of what can be learned at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quorum.voting.decide import Decision, Floats
from quorum.voting.patterns import ABSTAIN

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
    """Draw members of which some repeat each other.

    Two members of the bloc use the same draw, for luck and for the wrong value, with probability ``share``.

    Args:
        rng: Source of randomness.
        cells: Number of cells, n.
        accuracy: (m,) probability of the right value.
        values: K, number of possible values, coded 1..K.
        bloc: Members that repeat each other.
        share: Probability that a pair of them does, in [0, 1].

    Returns:
        (n, m) codes without abstentions and (n,) truth.
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


def accuracy_percent(decision: Decision, codes: npt.NDArray[np.int16], truth: Truth) -> float:
    """Share of cells decided right, in percent; no answer is not right."""
    winner = decision.winner.astype(np.int64)
    chosen = codes[np.arange(len(codes)), np.maximum(winner, 0)]
    return float(100.0 * np.mean((winner >= 0) & (chosen == truth)))
