# SPDX-License-Identifier: Apache-2.0
"""Make votes of members that know how sure they are."""

from __future__ import annotations

import math

import numpy as np

from quorum.votes import Cell, VotesTable, build_table

ATTRIBUTES = ("colour", "size", "brand")


def scored_table(
    rng: np.random.Generator,
    cells: int,
    members: int = 3,
    *,
    labelled: int | None = None,
    easy: float = 3.0,
    temper: float = 1.0,
    first: int = 0,
    missing: float = 0.05,
    unscored: float = 0.0,
) -> VotesTable:
    """Cells, three to a product, whose votes are right as often as their scores say.

    Args:
        rng: Draws everything.
        cells: Number of cells.
        members: Number of members.
        labelled: Number of the first cells with gold; None: all.
        easy: The probability that a member gives its value is Beta(``easy``, 1) distributed.
        temper: Factor of the scores that the first member states; above 1: of a model that is less sure.
        first: Number of the first product.
        missing: Share of abstentions.
        unscored: Share of votes without a score.
    """
    rows = []
    for i in range(cells):
        truth, sure = f"v{rng.integers(4)}", np.maximum(rng.beta(easy, 1.0, members), 1e-4)
        values = [truth if rng.random() < p else f"v{rng.integers(4, 9)}" for p in sure]
        values = [None if rng.random() < missing else value for value in values]
        scores = [math.log(p) * (1.0 if j else temper) for j, p in enumerate(sure)]
        known = [
            None if value is None or rng.random() < unscored else float(np.float32(score))
            for value, score in zip(values, scores, strict=True)
        ]
        gold = (truth,) if labelled is None or i < labelled else ()
        rows.append(
            Cell(f"p{first + i // 3}", "c", "", ATTRIBUTES[i % 3], tuple(values), gold, scores=tuple(known))
        )
    return build_table([f"m{j}" for j in range(members)], rows)
