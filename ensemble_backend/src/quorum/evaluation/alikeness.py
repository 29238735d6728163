# SPDX-License-Identifier: Apache-2.0
"""Measure how much members repeat each other's errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.patterns import ABSTAIN
from quorum.learning.correlation import blocs, correlation
from quorum.votes.table import VotesTable

BLOC_PHI = 0.85


@dataclass(frozen=True, slots=True)
class Alikeness:
    """How much members repeat each other on the labelled cells.

    Attributes:
        members: Order of rows and columns.
        error_phi: Correlation of being wrong; None where undefined.
        same_error: When both are wrong: share with the same wrong answer.
        blocs: Members linked by a correlation above :data:`BLOC_PHI`.
    """

    members: tuple[str, ...]
    error_phi: list[list[float | None]]
    same_error: list[list[float | None]]
    blocs: list[list[str]]


def alikeness(table: VotesTable) -> Alikeness:
    """Compare the errors of members on the labelled cells; an answer of any kind is right as a whole."""
    hist = table.statistic().hist
    answered = np.maximum((table.codes[table.labelled] != ABSTAIN).sum(axis=0), 1)
    figures = correlation(hist, table.correct().sum(axis=0) / answered, 10.0)
    groups = blocs(figures.error_phi, BLOC_PHI)
    return Alikeness(
        members=table.members,
        error_phi=figures.error_phi.tolist(),
        same_error=figures.same_error.tolist(),
        blocs=[[table.members[j] for j in bloc] for bloc in groups],
    )
