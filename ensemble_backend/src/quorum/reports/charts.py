# SPDX-License-Identifier: Apache-2.0
"""Draw the charts of reports: rows of figures with intervals, curves, requests over time.

Axes reach as far as the data and their intervals. Each series of a chart has a colour and a marker of its
own; where a chart has more than :data:`MOST_CURVES` curves, each gets a panel. Charts are SVG with a text
alternative, in the colours of the page, light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorum.reports.drawing import INK, in_style, legend, new_axes, plotted, series_look, wrapped
from quorum.reports.figures import Interval, bracketed, number
from quorum.reports.palette import MOST_SERIES

MOST_CURVES = 6
_PANELS_A_ROW = 3
_PANEL_NAME = 22
_DODGE = 0.62
_FAINT = 0.25
_BAND = 0.16
_FAR = 15.0
_MOST_TICKS = 9

Show = Callable[[float], str]
Curve = Sequence[tuple[float, Interval]]


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a row chart.

    Attributes:
        name: Of the row; rows with one name share a line.
        figure: With its interval.
        series: Group that it is of; "" where a chart has no groups.
    """

    name: str
    figure: Interval
    series: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale.

    Attributes:
        title: What it measures, with its unit.
        is_log: Whether it is logarithmic, whatever the data.
        bounds: Values that it never passes, such as 0 and 100.
        show: How its values are written in the text alternative and next to dots.
    """

    title: str
    is_log: bool = False
    bounds: tuple[float, float] | None = None
    show: Show = number


@dataclass(frozen=True, slots=True)
class Levels:
    """Lines across a chart.

    Attributes:
        constant: Name -> value.
        ideal: Points of a dashed line, and its name.
    """

    constant: Mapping[str, float] = field(default_factory=dict)
    ideal: Sequence[tuple[float, float]] = ()
    ideal_name: str = ""


_NO_LEVELS = Levels()


@in_style
def row_chart(title: str, rows: Sequence[Row], axis: Axis, at: float | None = None) -> str:
    """Draw a dot and its interval in a row for each name, side by side for each series.

    Args:
        title: Says what is shown; the text alternative begins with it.
        rows: At least one.
        axis: Of the figures.
        at: Value to mark by a line, such as 0 for differences; it is drawn where the data come near.
    """
    series = list(dict.fromkeys(row.series for row in rows))
    if len(series) > MOST_SERIES:
        rows = [Row(f"{row.name}, {row.series}", row.figure) for row in rows]
        series = [""]
    names = list(dict.fromkeys(row.name for row in rows))
    per_name = len(series) if len(rows) > len(names) else 1
    lines = sum(name.count("\n") + 1 for name in map(wrapped, names)) if per_name == 1 else len(names)
    figure, axes = new_axes(0.8 + lines * 0.16 + len(names) * 0.15 * per_name + 0.28 * (len(series) > 1))
    step = _DODGE / len(series) if per_name > 1 else 0.0
    for index, group in enumerate(series):
        look, shift = series_look(index), (index - (len(series) - 1) / 2) * step
        placed = [(names.index(row.name) + shift, row) for row in rows if row.series == group]
        for place, row in placed:
            ends = [row.figure.low, row.figure.high]
            axes.plot(ends, [place, place], color=look["color"], lw=2.4, alpha=0.55, solid_capstyle="round")
            axes.plot(row.figure.value, place, ls="", ms=5.5, **look)
            if per_name == 1:
                _label(axes, axis.show(row.figure.value), place)
        axes.plot([], [], label=group, ls="", ms=5.5, **look)
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(axis="x", alpha=0.15, color=INK, lw=0.6)
    axes.set_xlabel(axis.title)
    ends = [end for row in rows for end in (row.figure.low, row.figure.value, row.figure.high)]
    _zoom(axes.xaxis, axes.set_xlim, axes.set_xscale, ends, axis)
    if at is not None and axes.get_xlim()[0] <= at <= axes.get_xlim()[1]:
        axes.axvline(at, color=INK, lw=0.9, alpha=0.6)
    if len(series) > 1:
        legend(figure, axes)
    words = [
        f"{row.name}{', ' * bool(row.series)}{row.series}: {_words(row.figure, axis.show)}" for row in rows
    ]
    return plotted(figure, title, words)


@in_style
def curve_chart(
    title: str, curves: Mapping[str, Curve], x_axis: Axis, y_axis: Axis, levels: Levels = _NO_LEVELS
) -> str:
    """Draw curves with their intervals as bands; in a panel each where there are many.

    Args:
        title: Says what is shown; the text alternative begins with it.
        curves: Name -> points (x, figure), at least one each; one curve alone may have the name "".
        x_axis: Of x.
        y_axis: Of the figures.
        levels: Lines across the chart.
    """
    ordered = {name: sorted(curve, key=lambda point: point[0]) for name, curve in curves.items()}
    drawn = len(ordered) + len(levels.constant)
    if drawn > MOST_CURVES:
        rows = -(-len(ordered) // _PANELS_A_ROW)
        figure, grid = new_axes(0.5 + 1.5 * rows, (rows, _PANELS_A_ROW))
        panels = grid.reshape(-1)
        for empty in panels[len(ordered) :]:
            empty.set_visible(False)
        for last in panels[max(0, len(ordered) - _PANELS_A_ROW) : len(ordered)]:
            last.tick_params(labelbottom=True)
        for axes, name in zip(panels, ordered, strict=False):
            for other in ordered.values():
                axes.plot(*_line(other), color=INK, lw=0.7, alpha=_FAINT)
            for value in levels.constant.values():
                axes.axhline(value, ls="--", lw=0.8, color=INK, alpha=0.6)
            if levels.ideal:
                axes.plot(*_columns(levels.ideal), "--", lw=0.9, color=INK, alpha=0.6)
            _draw_curve(axes, ordered[name], series_look(0), "")
            axes.set_title(wrapped(name, _PANEL_NAME), fontsize=9, loc="left", color=INK)
        figure.supxlabel(x_axis.title, fontsize=10, color=INK)
        figure.supylabel(y_axis.title, fontsize=10, color=INK)
    else:
        figure, axes = new_axes(3.2)
        panels = [axes]
        for index, (name, curve) in enumerate(ordered.items()):
            _draw_curve(axes, curve, series_look(index), name)
        for index, (name, value) in enumerate(levels.constant.items(), len(ordered)):
            axes.axhline(value, ls="--", lw=1.3, color=series_look(index)["color"], label=name)
        if levels.ideal:
            axes.plot(*_columns(levels.ideal), "--", lw=1.1, color=INK, alpha=0.6)
            axes.plot([], [], "--", lw=1.1, color=INK, alpha=0.6, label=levels.ideal_name)
        axes.set_xlabel(x_axis.title)
        axes.set_ylabel(y_axis.title)
        legend(figure, axes)
    _scale(panels, ordered, x_axis, y_axis, levels)
    words = [
        f"{name + ': ' if name else ''}{_ends(curve, x_axis, y_axis)}" for name, curve in ordered.items()
    ]
    words += [f"{name}: {y_axis.show(value)}" for name, value in levels.constant.items()]
    return plotted(figure, title, words)


@in_style
def event_chart(
    title: str,
    groups: Mapping[str, Sequence[tuple[float, float]]],
    marks: Sequence[tuple[float, str]],
    x_axis: Axis,
    y_axis: Axis,
) -> str:
    """Draw a dot for each event of each group, and vertical lines where something was done.

    Args:
        title: Says what is shown; the text alternative begins with it.
        groups: Name -> (x, y) of its events; empty groups stay in the legend.
        marks: x, and what was done there.
        x_axis: Of time.
        y_axis: Of the events.
    """
    figure, axes = new_axes(3.3)
    for index, (name, events) in enumerate(groups.items()):
        look = series_look(index)
        axes.plot(*_columns(events), ls="", ms=3, alpha=0.75, **look)
        axes.plot([], [], ls="", ms=5, label=name, **look)
    everything = [y for events in groups.values() for _, y in events]
    _zoom(axes.yaxis, axes.set_ylim, axes.set_yscale, everything, y_axis)
    for x, words in marks:
        axes.axvline(x, color=INK, lw=0.8, ls="--", alpha=0.6)
        axes.annotate(
            words, (x, 1.0), (2, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
            rotation=90, va="top", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_xlabel(x_axis.title)
    axes.set_ylabel(y_axis.title)
    axes.grid(axis="y", alpha=0.15, color=INK, lw=0.6)
    legend(figure, axes)
    dots = [f"{name}: {len(events)} dots" for name, events in groups.items()]
    return plotted(figure, title, [*dots, *(f"at {x_axis.show(x)}: {what}" for x, what in marks)])


def _draw_curve(axes: Any, curve: Curve, look: Mapping[str, Any], label: str) -> None:
    x, low, high = (list(side) for side in zip(*((x, y.low, y.high) for x, y in curve), strict=True))
    if len(x) > 1:
        axes.fill_between(x, low, high, color=look["color"], alpha=_BAND, lw=0)
    else:
        axes.vlines(x, low, high, color=look["color"], lw=2.4, alpha=0.55)
    axes.plot(*_line(curve), ms=4, lw=1.6, label=label or None, **look)


def _line(curve: Curve) -> tuple[list[float], list[float]]:
    return _columns([(x, figure.value) for x, figure in curve])


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _scale(
    panels: Sequence[Any], curves: Mapping[str, Curve], x_axis: Axis, y_axis: Axis, levels: Levels
) -> None:
    ys = [end for curve in curves.values() for _, y in curve for end in (y.low, y.value, y.high)]
    ys += [*levels.constant.values(), *(y for _, y in levels.ideal)]
    ticks = sorted({x for curve in curves.values() for x, _ in curve})
    for axes in panels:
        _zoom(axes.yaxis, axes.set_ylim, axes.set_yscale, ys, y_axis)
        if x_axis.is_log:
            axes.set_xscale("log")
        if len(ticks) <= (_MOST_TICKS if len(panels) == 1 else _MOST_TICKS // 2):
            axes.set_xticks(ticks, [number(tick) if tick >= 1000 else f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        axes.grid(axis="y", alpha=0.15, color=INK, lw=0.6)


def _zoom(scale: Any, set_limits: Any, set_scale: Any, values: Sequence[float], axis: Axis) -> None:
    """Fit a scale to its data, with a margin, within its bounds; logarithmic where they differ by far."""
    known = [value for value in values if value == value]
    if not known:
        return
    low, high = min(known), max(known)
    if low > 0 and (axis.is_log or high > _FAR * low):
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        set_scale("log")
        scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < _FAR**2 * low else (1.0,)))
        scale.set_minor_locator(NullLocator())
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        room = max((high / low) ** 0.06, 1.05)
        set_limits(low / room, high * room)
        return
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room
    if axis.bounds:
        # Markers at a bound stay whole.
        low, high = max(low, axis.bounds[0] - room / 2), min(high, axis.bounds[1] + room / 2)
    set_limits(low, high)


def _label(axes: Any, text: str, place: float) -> None:
    axes.annotate(
        text, (1.0, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=9.5, color=INK,
    )  # fmt: skip


def _words(figure: Interval, show: Show) -> str:
    return bracketed(*map(show, (figure.value, figure.low, figure.high)))


def _ends(curve: Curve, x_axis: Axis, y_axis: Axis) -> str:
    """The first and the last point of a curve in words."""
    first, last = curve[0], curve[-1]
    shown = [first] if first is last else [first, last]
    return ", ".join(f"{_words(y, y_axis.show)} at {x_axis.show(x)}" for x, y in shown)
