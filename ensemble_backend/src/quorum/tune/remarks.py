# SPDX-License-Identifier: Apache-2.0
"""What a person should know of the rows and figures of a tuned member."""

from __future__ import annotations

from collections.abc import Mapping

from quorum.tune.data import TrainingData

NEAR = "near duplicates of held-out rows, or about the same"
"""Why rows that belong to those held out are left out."""

FEW_ROWS = 20
"""With fewer rows, figures on the held-out ones say little."""
FEW_HELD_OUT = 20


def remarks_on(data: TrainingData, further: Mapping[str, int], held_out: int) -> tuple[str, ...]:
    """Remarks for the card.

    Args:
        data: What was trained on and held out.
        further: Of each reason, in words, how many rows of it are neither.
        held_out: Rows that figures are of.
    """
    found = []
    rows = len({(row.product, row.row) for row in data.rows})
    if rows < FEW_ROWS:
        found.append(f"{rows} rows: figures on so few say little")
    elif held_out < FEW_HELD_OUT:
        found.append(
            f"figures are of {held_out} held-out rows: one row is {100 / max(held_out, 1):.0f} points"
        )
    for task in data.tasks:
        answers = {row.answers[0] for row in data.rows if row.attribute == task}
        if len(answers) == 1 and len(data.rows) > 1:
            found.append(f"all rows of {task} have the answer {answers.pop()!r:.80}: nothing else is learned")
    if data.source == "votes":
        found.append("figures are against the votes' own answers, not against gold")
    reasons = {**data.why_left_out, **further}
    left_out = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)
    if left_out:
        found.append(f"left out: {left_out}")
    return tuple(found)
