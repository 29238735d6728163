# SPDX-License-Identifier: Apache-2.0
"""The result of the keyphrase demo as a table and as one HTML file."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from demo_report import redeploy_plot, svg
from matplotlib import pyplot as plt
from rich.table import Table

from quorum import __version__
from quorum.evaluation.stats import Estimate

if TYPE_CHECKING:
    from run import Loop

_TEMPLATE = Path(__file__).parent / "keyphrase_report.html.j2"
COLUMNS = {
    "pearson": "Pearson",
    "auc": "AUC",
    "keyphrases": "recall@10, keyphrases",
    "items": "recall@10, items",
}
_COLOURS = {"student": "#1a9c6b", "against": "#2f7ed8", "BM25": "#7a8699"}


def shown(figure: Estimate) -> str:
    """A figure with its interval."""
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


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
    template = jinja2.Template(_TEMPLATE.read_text("utf-8"), autoescape=True)
    before, after = sorted(loop.recommended)
    text = template.render(
        loop=loop,
        turn=loop.turn,
        measured=measured,
        columns=COLUMNS,
        shown=shown,
        called=called,
        plots={title: _plot(measured.figures, key, title) for key, title in COLUMNS.items()},
        redeploy_plot=redeploy_plot(loop.samples, loop.marks),
        rows=list(zip(loop.items, loop.recommended[before], loop.recommended[after], strict=True)),
        seconds=loop.seconds | dict(loop.turn.seconds),
        machine=f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _plot(rows: Mapping[str, Mapping[str, Estimate]], key: str, title: str) -> str:
    """A figure of every method with its interval."""
    known = [(name, figures[key]) for name, figures in reversed(rows.items()) if key in figures]
    figure, axes = plt.subplots(figsize=(7.6, 0.4 * len(known) + 0.8))
    for place, (name, value) in enumerate(known):
        colour = _COLOURS.get(name.split(" ")[0], "#b5651d")
        axes.plot([value.low, value.high], [place, place], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(value.value, place, "o", color=colour, ms=7)
        axes.annotate(
            f"{value.value:.2f}",
            (value.value, place),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(known)), [called(name) for name, _ in known])
    axes.set_ylim(-0.6, len(known) - 0.2)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(f"{title} (bar: 95 % interval over queries)")
    axes.grid(axis="x", alpha=0.3)
    return svg(figure)
