# SPDX-License-Identifier: Apache-2.0
"""Print attributes by the measure of their kind: best member, encoders, majority, learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from quorum.cli.console import note
from quorum.cli.figures import Row, show_figures
from quorum.reports.figures import percent_interval, points_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quorum.evaluation.tasks import TaskResult


def show_tasks(tasks: Mapping[str, TaskResult]) -> None:
    """Print a table per kind and attribute; members other than the best one and encoders are left out."""
    for name, task in tasks.items():
        heads = [*(heading.replace("_", "-") for heading in task.rows[0].figures), "to best member"]
        rows: list[Row] = []
        for row in task.rows:
            if row.role != "member":
                shares = [percent_interval(f) for f in row.figures.values()]
                to_best = "" if row.to_best_member is None else points_interval(row.to_best_member)
                rows.append((Text(row.title), [*shares, to_best]))
        show_figures(f"{name}, %", heads, rows)
        if partly := task.answered_in_words(name):
            note(partly)
