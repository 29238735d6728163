# SPDX-License-Identifier: Apache-2.0
"""The demo's result as one HTML file with two plots."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from demo_table import Row, changes, short_points, verdict, warning
from demo_traffic import Sample

from quorum import __version__

mpl.use("svg")
from matplotlib import pyplot as plt

_TEMPLATE = Path(__file__).parent / "demo_report.html.j2"
_COLOURS = ("#7a8699", "#2f7ed8", "#1a9c6b", "#b5651d")


def write_report(
    path: Path,
    rows: Sequence[Row],
    samples: Sequence[Sample],
    marks: Sequence[tuple[float, str]],
    listings: int,
    lazy: str = "",
) -> None:
    """One HTML file that needs nothing else.

    Args:
        path: Where it goes.
        rows: The table.
        samples: The background stream during the redeploys.
        marks: When something was done to the server, and what; same clock as the samples.
        listings: How many held-out listings the accuracies are over.
        lazy: How the lazy channel's values compare with the full channel's, in words.
    """
    template = jinja2.Template(_TEMPLATE.read_text("utf-8"), autoescape=True)
    text = template.render(
        rows=rows,
        verdict=verdict(rows),
        warning=warning(rows),
        lazy=lazy,
        changes=changes(rows),
        points=short_points,
        attributes=list(rows[0].by_attribute),
        best={a: max(row.by_attribute[a] for row in rows) for a in rows[0].by_attribute},
        accuracy_plot=_accuracy_plot(rows),
        redeploy_plot=redeploy_plot(samples, marks),
        requests=len(samples),
        failed=sum(s.version is None for s in samples),
        listings=listings,
        machine=f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    path.write_text(text, "utf-8")


def _accuracy_plot(rows: Sequence[Row]) -> str:
    figure, axes = plt.subplots(figsize=(7.6, 0.5 * len(rows) + 1.0))
    for i, row in enumerate(reversed(rows)):
        a = row.accuracy
        colour = _COLOURS[0] if row.is_alone else _COLOURS[2]
        axes.plot([a.low * 100, a.high * 100], [i, i], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(a.value * 100, i, "o", color=colour, ms=8)
        axes.annotate(f"{a.value:.1%}", (a.value * 100, i), (0, 9), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    axes.set_xlabel("right answers on held-out listings, % (bar: 95 % interval)")
    axes.grid(axis="x", alpha=0.3)
    return svg(figure)


def redeploy_plot(samples: Sequence[Sample], marks: Sequence[tuple[float, str]]) -> str:
    """Latency of each request over time, and what was done to the server; inline SVG."""
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    versions = sorted({s.version for s in samples if s.version is not None})
    for i, version in enumerate(versions):
        of_version = [s for s in samples if s.version == version]
        axes.plot(
            [s.at_s for s in of_version],
            [s.latency_ms for s in of_version],
            ".",
            color=_COLOURS[i % len(_COLOURS)],
            label=f"version {version}",
        )
    lost = [s for s in samples if s.version is None]
    axes.plot(
        [s.at_s for s in lost],
        [s.latency_ms for s in lost],
        "x",
        color="#d62728",
        label=f"failed: {len(lost)}",
    )
    axes.set_ylim(bottom=0)
    top = axes.get_ylim()[1]
    for at, label in marks:
        axes.axvline(at, color="#7a8699", lw=0.8, ls="--")
        axes.annotate(
            label, (at, top), (2, -3), textcoords="offset points", rotation=90, va="top", fontsize=7
        )
    axes.set_xlabel("seconds of load")
    axes.set_ylabel("latency, ms")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4, frameon=False)
    return svg(figure)


def svg(figure: Any) -> str:
    """Inline SVG whose text and axes take the page's colour, for light and dark."""
    for axes in figure.axes:
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")
