# SPDX-License-Identifier: Apache-2.0
"""The result of the keyphrase demo as a table and as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from demo_report import origin, redeploy_plot
from rich.table import Table

from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Row, row_chart
from quorum.reports.figures import bracketed
from quorum.reports.page import render

if TYPE_CHECKING:
    from run import Loop

_TEMPLATE = Path(__file__).parent / "keyphrase_report.html.j2"
COLUMNS = {
    "pearson": "Pearson",
    "auc": "AUC",
    "keyphrases": "recall@10, keyphrases",
    "items": "recall@10, items",
}


def shown(figure: Estimate) -> str:
    """A figure with its interval."""
    return bracketed(f"{figure.value:.2f}", f"{figure.low:.2f}", f"{figure.high:.2f}")


def called(name: str) -> str:
    """What a method is here: students are compared with the untrained base."""
    return name.replace("against", "zero-shot")


def summary(loop: Loop) -> Table:
    """Student, zero-shot and BM25 on held-out queries."""
    assert loop.turn
    table = Table("held-out queries", *COLUMNS.values())
    for name, figures in loop.turn.evaluation.figures.items():
        table.add_row(called(name), *(shown(figures[key]) if key in figures else "-" for key in COLUMNS))
    return table


def recommendations(loop: Loop) -> Table:
    """The items, and the best keyphrases of each version for them."""
    versions = sorted(loop.recommended)
    table = Table("item", *(f"version {version}" for version in versions))
    for row, text in enumerate(loop.items):
        found = (loop.recommended[version][row].keyphrases[:3] for version in versions)
        table.add_row(text, *(", ".join(one.text for one in each) for each in found))
    return table


def write_report(path: Path, loop: Loop) -> None:
    """One HTML file that needs nothing else."""
    assert loop.turn
    measured = loop.turn.evaluation
    before, after = sorted(loop.recommended)
    text = render(
        _TEMPLATE.read_text("utf-8"),
        loop_=loop,
        turn=loop.turn,
        measured=measured,
        columns=COLUMNS,
        shown=shown,
        called=called,
        plots={title: _plot(measured.figures, key, title) for key, title in COLUMNS.items()},
        redeploy_plot=redeploy_plot(loop.samples, loop.marks),
        rows=list(zip(loop.items, loop.recommended[before], loop.recommended[after], strict=True)),
        seconds=loop.seconds | dict(loop.turn.seconds),
        **origin(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _plot(rows: Mapping[str, Mapping[str, Estimate]], key: str, title: str) -> str:
    """A figure of every method with its interval."""
    shown = [Row(called(name), figures[key]) for name, figures in rows.items() if key in figures]
    return row_chart(f"{title} of every method", shown, Axis(f"{title} (line: 95 % interval over queries)"))
