# SPDX-License-Identifier: Apache-2.0
"""The result of the tasks as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from demo_report import hundredfold, origin, redeploy_plot
from task_serve import Served
from task_table import TaskTable, verdicts
from task_tune import Tuned, headline

from quorum.reports.charts import Axis, Row, row_chart
from quorum.reports.page import render

_TEMPLATE = Path(__file__).parent / "task_report.html.j2"
_ROLES = {"best": "LLMs", "member": "LLMs", "majority": "votes of all", "learned": "votes of all"}


def write_report(
    path: Path,
    tables: Sequence[TaskTable],
    served: Served,
    tuned: Sequence[Tuned],
    examples: Mapping[str, tuple[str, str]],
    seconds: Mapping[str, float],
    data: str,
) -> None:
    """One HTML file that needs nothing else.

    Args:
        path: Where it goes.
        tables: A table for each task.
        served: What the server did.
        tuned: How the members were made.
        examples: Task -> a question of the test rows, and the answer to it.
        seconds: Step -> its time.
        data: Where the rows come from.
    """
    text = render(
        _TEMPLATE.read_text("utf-8"),
        tables=tables,
        plots={table.name: _plot(table) for table in tables},
        verdicts=verdicts(tables),
        examples=examples,
        tuned=tuned,
        headline=headline,
        redeploy_plot=redeploy_plot(served.samples, served.marks),
        requests=len(served.samples),
        failed=served.failed,
        seconds=seconds,
        data=data,
        **origin(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _plot(table: TaskTable) -> str:
    """Figure and interval of who answers."""
    shown = [
        Row(line.name, hundredfold(line.figure), "encoders" if line.is_encoder else _ROLES[line.role])
        for line in table.lines
    ]
    title = f"{table.measure} on {table.name}, by who answers"
    axis = Axis(f"{table.measure}, % (line: 95 % interval)", bounds=(0.0, 100.0))
    return row_chart(title, shown, axis)
