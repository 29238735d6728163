# SPDX-License-Identifier: Apache-2.0
"""Draw the plots of a scenario with the charts of all reports."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.reports.charts import Axis, Levels, Row, curve_chart, row_chart
from quorum_bench.results import Plot, PointResult, Results, ScenarioResult, Value

Named = tuple[str, PointResult, Value]
"""Name of the series, point, and its figure."""


def draw(plot: Plot, scenario: ScenarioResult, results: Results) -> str:
    """Draw a scenario's points: rows over words, else curves, all with 95 % intervals.

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
    named = _named(plot, points, results, words)
    unit = results.metrics[plot.y[0]].unit if plot.y[0] in results.metrics else ""
    title = f"{scenario.title}: {plot.title}"
    if words:
        rows = [Row(str(point.labels[plot.x]), value, name) for name, point, value in named]
        return row_chart(title, rows, Axis(unit, is_log=plot.log_y))
    curves: dict[str, list[tuple[float, Value]]] = {}
    for name, point, value in named:
        curves.setdefault(name, []).append((float(point.labels[plot.x]), value))
    levels = Levels(ideal=plot.ideal, ideal_name=plot.ideal_name)
    x_axis = Axis(plot.x.replace("_", " "), is_log=plot.log_x)
    return curve_chart(title, curves, x_axis, Axis(unit, is_log=plot.log_y), levels)


def _named(plot: Plot, points: Sequence[PointResult], results: Results, words: bool) -> list[Named]:
    """Every figure of a plot with the name of its series, which says its label where names may not."""
    named = []
    for y in plot.y:
        for point in points:
            if y not in point.values:
                continue
            name = results.metrics[y].title if len(plot.y) > 1 else ""
            if plot.series and plot.series in point.labels:
                value = point.labels[plot.series]
                label = value if isinstance(value, str) and not words else f"{plot.series} {value}"
                name = f"{label} {name}".strip()
            named.append((name, point, point.values[y]))
    return named
