# SPDX-License-Identifier: Apache-2.0
"""The result of the tasks as one HTML file."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from demo_report import redeploy_plot, svg
from matplotlib import pyplot as plt
from task_serve import Served
from task_table import Line, TaskTable, verdicts
from task_tune import Tuned, headline

from quorum import __version__

_TEMPLATE = Path(__file__).parent / "task_report.html.j2"
_COLOURS = {"best": "#2f7ed8", "member": "#7a8699", "majority": "#b5651d", "learned": "#1a9c6b"}


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
    template = jinja2.Template(_TEMPLATE.read_text("utf-8"), autoescape=True)
    text = template.render(
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
        machine=f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _plot(table: TaskTable) -> str:
    """Figure and interval of who answers."""
    lines: list[Line] = list(reversed(table.lines))
    figure, axes = plt.subplots(figsize=(7.6, 0.42 * len(lines) + 0.8))
    for place, line in enumerate(lines):
        low, value, high = (100 * v for v in (line.figure.low, line.figure.value, line.figure.high))
        colour = _COLOURS[line.role]
        axes.plot([low, high], [place, place], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(value, place, "s" if line.is_encoder else "o", color=colour, ms=7)
        axes.annotate(
            f"{value:.1f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(-0.6, len(lines) - 0.2)
    axes.set_xlim(-3, 103)
    axes.set_xlabel(f"{table.measure}, % (bar: 95 % interval; square: encoder)")
    axes.grid(axis="x", alpha=0.3)
    return svg(figure)
