# SPDX-License-Identifier: Apache-2.0
"""Print attributes by the measure of their kind: best member, encoders, majority, learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text

from quorum.cli.attributes import delta, interval
from quorum.cli.console import note, out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quorum.evaluation.tasks import TaskResult


def show_tasks(tasks: Mapping[str, TaskResult]) -> None:
    """Print a table per kind and attribute; members other than the best one and encoders are left out."""
    for name, task in tasks.items():
        heads = [heading.replace("_", "-") for heading in task.rows[0].figures]
        figures = (Column(head, no_wrap=True) for head in (*heads, "to best member"))
        table = Table(Column(f"{name}, %", overflow="fold"), *figures, box=SIMPLE, padding=(0, 1, 0, 0))
        for row in task.rows:
            if row.role != "member":
                shares = (interval(f.value, f.low, f.high) for f in row.figures.values())
                to_best = "" if row.to_best_member is None else delta(row.to_best_member)
                table.add_row(Text(row.title), *shares, to_best)
        out.print(table)
        if task.least_answered < 1.0:
            note(
                f"{name}: members gave answers to {100 * task.least_answered:.1f} % of the cells and more; a "
                "table does not say how many of the others could not be read"
            )
