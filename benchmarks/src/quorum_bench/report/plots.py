# SPDX-License-Identifier: Apache-2.0
"""Draw plots as SVG in the colour of the page's text."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from quorum.evaluation.stats import Estimate
from quorum_bench.report.figures import number
from quorum_bench.results import Plot, PointResult, Results, ScenarioResult

_INK = "#010203"
_MOST_TICKS = 9
_MOST_BARS = 6
_MOST_NUMBERS = 18
_COLOURS = ("#2f7ed8", "#d9772b", "#1a9c6b", "#a45bc4", "#c0445b", "#8a8f2a", "#3aa6b9", "#7a8699")


def draw(plot: Plot, scenario: ScenarioResult, results: Results) -> str:
    """Draw a scenario's points: bars or rows over words, else lines, all with 95 % intervals.

    Returns:
        SVG, or nothing if no point has what it shows.
    """
    points = [
        p
        for p in scenario.points
        if plot.x in p.labels
        and any(y in p.values for y in plot.y)
        and all(p.labels.get(label) == value for label, value in plot.only.items())
    ]
    if not points:
        return ""
    words = any(isinstance(point.labels[plot.x], str) for point in points)
    in_rows = words and len({point.labels[plot.x] for point in points}) > _MOST_BARS
    figure, axes = _figure(max(3.1, 0.9 + 0.27 * len(points)) if in_rows else 3.1)
    unit = results.metrics[plot.y[0]].unit if plot.y[0] in results.metrics else ""
    if in_rows:
        _rows(axes, plot, points)
        axes.set_xlabel(unit)
        return _svg(figure, f"{scenario.name}-{plot.title}")
    if words:
        _bars(axes, plot, points)
    else:
        _lines(axes, plot, points, results)
    axes.set_ylabel(unit)
    axes.set_title(plot.title, fontsize=10, loc="left", color=_INK)
    if not plot.log_y:
        axes.set_ylim(bottom=0)
    return _svg(figure, f"{scenario.name}-{plot.title}")


def draw_curves(
    title: str,
    x_title: str,
    curves: Mapping[str, Sequence[tuple[float, Estimate]]],
    levels: Mapping[str, float],
) -> str:
    """Draw curves with their intervals over a logarithmic axis, and levels as broken lines, as SVG."""
    figure, axes = _figure(3.6)
    colours = itertools.cycle(_COLOURS)
    for name, points in curves.items():
        x, found = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        colour = next(colours)
        low, high = ([getattr(value, end) for value in found] for end in ("low", "high"))
        axes.plot(x, [value.value for value in found], "o-", ms=4, lw=1.6, color=colour, label=name)
        if len(x) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        else:
            axes.vlines(x, low, high, color=colour, lw=1.1)
    for name, value in levels.items():
        axes.axhline(value, ls="--", lw=1.1, color=next(colours), label=name)
    axes.set_xscale("log")
    ticks = sorted({at for points in curves.values() for at, _ in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_title)
    axes.set_title(title, fontsize=10, loc="left", color=_INK)
    _legend(axes)
    return _svg(figure, title)


def _lines(axes: Any, plot: Plot, points: list[PointResult], results: Results) -> None:
    groups: dict[str, list[tuple[PointResult, str]]] = {}
    for y in plot.y:
        for point in points:
            if y not in point.values:
                continue
            name = results.metrics[y].title if len(plot.y) > 1 else ""
            if plot.series and plot.series in point.labels:
                value = point.labels[plot.series]
                label = value if isinstance(value, str) else f"{plot.series} {value}"
                name = f"{label} {name}".strip()
            groups.setdefault(name, []).append((point, y))
    for colour, (name, group) in zip(itertools.cycle(_COLOURS), groups.items(), strict=False):
        ordered = sorted(group, key=lambda pair: float(pair[0].labels[plot.x]))
        x = [float(point.labels[plot.x]) for point, _ in ordered]
        values = [point.values[y] for point, y in ordered]
        axes.plot(x, [v.value for v in values], "o-", ms=4, lw=1.6, color=colour, label=name or None)
        axes.fill_between(
            x, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.18, lw=0
        )
    if plot.ideal:
        axes.plot(*zip(*plot.ideal, strict=True), "--", lw=1.2, color=_INK, alpha=0.6, label=plot.ideal_name)
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    ticks = sorted({float(point.labels[plot.x]) for point in points})
    if len(ticks) <= _MOST_TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(plot.x.replace("_", " "))
    _legend(axes)


def _bars(axes: Any, plot: Plot, points: list[PointResult]) -> None:
    places = list(dict.fromkeys(str(point.labels[plot.x]) for point in points))
    groups = list(dict.fromkeys(str(p.labels.get(plot.series, "")) if plot.series else "" for p in points))
    width = 0.8 / len(groups)
    y = plot.y[0]
    for g, group in enumerate(groups):
        drawn = [p for p in points if not plot.series or str(p.labels.get(plot.series, "")) == group]
        at = [places.index(str(p.labels[plot.x])) + (g - (len(groups) - 1) / 2) * width for p in drawn]
        values = [p.values[y] for p in drawn]
        name = f"{plot.series} {group}" if plot.series else None
        axes.bar(at, [v.value for v in values], width * 0.92, color=_COLOURS[g % len(_COLOURS)], label=name)
        axes.vlines(at, [v.low for v in values], [v.high for v in values], color=_INK, lw=1.1)
        if len(places) * len(groups) > _MOST_NUMBERS:
            continue
        for x, v in zip(at, values, strict=True):
            axes.annotate(
                number(v.value),
                (x, v.high),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_INK,
            )
    axes.set_xticks(range(len(places)), places)
    axes.margins(y=0.12)
    _legend(axes)


def _rows(axes: Any, plot: Plot, points: list[PointResult]) -> None:
    """Draw a row per point, for many or long names; the axis need not start at zero."""
    for place, point in enumerate(points):
        value = point.values[plot.y[0]]
        axes.plot([value.low, value.high], [place, place], color=_COLOURS[0], lw=1.4, alpha=0.6)
        axes.plot(value.value, place, "o", ms=5, color=_COLOURS[0])
    axes.set_yticks(range(len(points)), [str(point.labels[plot.x]) for point in points])
    axes.grid(axis="x", alpha=0.18, color=_INK, lw=0.6)
    axes.invert_yaxis()
    axes.set_title(plot.title, fontsize=10, loc="left", color=_INK)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(axis="y", alpha=0.18, color=_INK, lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_visible(side in ("left", "bottom"))
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _legend(axes: Any) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if not handles:
        return
    legend = axes.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_color(_INK)


def _svg(figure: Any, salt: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # The salt keeps the ids of several plots on one page apart.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return re.sub(re.escape(_INK), "currentColor", text[text.index("<svg") :])
