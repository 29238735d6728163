# SPDX-License-Identifier: Apache-2.0
"""Count how the ensemble and its members did on the cells that people decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from quorum.review.page.card import Shown
from quorum.votes import Cell


@dataclass(frozen=True, slots=True)
class Tally:
    """Figures of the cells with gold from the review; these were chosen, so most are harder than usual.

    Attributes:
        cells: Their number.
        accepted: Of these, cells whose answer of the ensemble is right.
        promised: Sum of the ensemble's confidence: how many it expects to be right; None where its confidence
            is agreement, which promises nothing.
        right: Member -> cells in which its vote is right.
    """

    cells: int
    accepted: int
    promised: float | None
    right: Mapping[str, int]

    @property
    def changed(self) -> int:
        """Cells in which people's answer is another than the ensemble's."""
        return self.cells - self.accepted


def tally(
    reviewed: Iterable[tuple[Cell, Shown, tuple[str, ...]]], members: Sequence[str], calibrated: bool
) -> Tally:
    """Count; each cell comes with the ensemble's answer and its gold.

    An answer is right if it is one of the acceptable ones, as :meth:`quorum.votes.Cell.is_right` has it.
    """
    cells = accepted = 0
    promised = 0.0
    right = dict.fromkeys(members, 0)
    for cell, shown, gold in reviewed:
        labelled = replace(cell, gold=gold)
        cells += 1
        accepted += labelled.is_right(shown.value or None)
        promised += shown.confidence
        for member, value in zip(members, cell.values, strict=True):
            right[member] += labelled.is_right(value)
    return Tally(cells, accepted, round(promised, 3) if calibrated else None, right)
