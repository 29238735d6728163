#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the panels of quorum.json from a Prometheus, without Grafana, for docs/guides/metrics.md.

.venv/bin/python deploy/grafana/picture.py http://127.0.0.1:9090 dashboard.png --minutes 5
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

DASHBOARD = Path(__file__).with_name("quorum.json")
_PALETTES = {"tab10": 10, "Set2": 8, "Dark2": 8}
_COLOURS = [colormaps[name](at) for name, count in _PALETTES.items() for at in range(count)]
_MOST_IN_LEGEND = 6
_POINTS = 200


class Source:
    """A Prometheus and a span of time."""

    def __init__(self, url: str, seconds: float, interval: str) -> None:
        self._url, self._interval = url.rstrip("/"), interval
        self.end = time.time()
        self.start = self.end - seconds

    def series(self, target: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        """Legend, minutes from the start and numbers of each series of a query."""
        expr = target["expr"].replace("$instance", ".*").replace("$__rate_interval", self._interval)
        step = max(1.0, (self.end - self.start) / _POINTS)
        query = {"query": expr, "start": self.start, "end": self.end, "step": step}
        address = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address) as page:  # noqa: S310  (the caller's own)
            found = json.load(page)["data"]["result"]
        return [(_legend(target, one["metric"]), *self._points(one["values"])) for one in found]

    def _points(self, values: list[list[Any]]) -> tuple[list[float], list[float]]:
        kept = [(at, float(number)) for at, number in values if math.isfinite(float(number))]
        return [(at - self.start) / 60 for at, _ in kept], [number for _, number in kept]


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    legend = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])
    return legend.replace("http://", "")


def _number(unit: str, number: float) -> str:
    match unit:
        case "percentunit":
            return f"{100 * number:.3g} %"
        case "s":
            return f"{number:.3g} s" if number >= 1 else f"{1e3 * number:.3g} ms"
        case "reqps" | "cps":
            return f"{number:,.0f}/s" if number >= 1000 else f"{number:.3g}/s"
        case _:
            return f"{number:.3g}"


def _draw_now(axes: Any, panel: dict[str, Any], source: Source) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    last = [(legend, ys[-1]) for legend, _, ys in source.series(panel["targets"][0]) if ys]
    axes.axis("off")
    axes.set_title(panel["title"], fontsize=8, loc="left")
    height = 0.85 / max(1, len(last))
    for at, (legend, number) in enumerate(sorted(last)):
        size = 18 if len(last) == 1 else 9
        y = 0.9 - (at + 0.5) * height
        axes.text(0.02, y, _number(unit, number), fontsize=size, color="#1f5fa8", va="center")
        if len(last) > 1:
            axes.text(0.3, y, legend, fontsize=7, va="center", color="#555555")


def _draw_lines(axes: Any, panel: dict[str, Any], source: Source) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    series = sorted(one for target in panel["targets"] for one in source.series(target) if any(one[2]))
    # What is always zero has no line of its own; the busiest get the places of the legend.
    busiest = sorted(series, key=lambda one: -max(one[2]))[:_MOST_IN_LEGEND]
    stacking = panel["fieldConfig"]["defaults"]["custom"].get("stacking")
    floor: dict[float, float] = {}
    for colour, (legend, xs, ys) in zip(_COLOURS, series, strict=False):
        label = legend if (legend, xs, ys) in busiest else None
        if stacking:
            below = [floor.get(x, 0.0) for x in xs]
            above = [low + y for low, y in zip(below, ys, strict=True)]
            axes.fill_between(xs, below, above, color=colour, alpha=0.45, linewidth=0, label=label)
            floor |= dict(zip(xs, above, strict=True))
        else:
            axes.plot(xs, ys, color=colour, linewidth=1.2, label=label)
    if not series:
        axes.text(
            0.5, 0.5, "0 all the time", transform=axes.transAxes, ha="center", color="#888888", fontsize=8
        )
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.set_xlim(0, (source.end - source.start) / 60)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: _number(unit, number)))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if series:
        axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=2, frameon=False)


def draw(source: Source, path: Path) -> None:
    """Draw every panel of the dashboard, row by row, into a PNG."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    rows = 1 + max((p["gridPos"]["y"] + p["gridPos"]["h"]) for p in panels)
    figure = Figure(figsize=(14, rows * 0.33), dpi=80)
    grid = figure.add_gridspec(rows, 24, hspace=0, wspace=0, left=0.03, right=0.99, top=0.99, bottom=0.01)
    for panel in panels:
        place = panel["gridPos"]
        x, y, width, height = place["x"], place["y"], place["w"], place["h"]
        if panel["type"] == "row":
            axes = figure.add_subplot(grid[y : y + 1, :])
            axes.axis("off")
            axes.text(0, 0.3, panel["title"], fontsize=12, weight="bold")
            continue
        outer = grid[y : y + height, x : x + width]
        is_now = panel["type"] == "stat"
        margins = {"left": 0.02, "right": 0.98} if is_now else {"left": 0.11, "right": 0.96}
        inner = outer.subgridspec(100, 100)
        top, bottom = (12, 92) if is_now else (12, 72)
        columns = slice(int(100 * margins["left"]), int(100 * margins["right"]))
        axes = figure.add_subplot(inner[top:bottom, columns])
        (_draw_now if is_now else _draw_lines)(axes, panel, source)
    figure.text(0.99, 0.993, "time in minutes", fontsize=8, ha="right", va="top", color="#555555")
    figure.savefig(path)
    # A few colours: a third of the bytes.
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Draw what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="Of Prometheus.")
    parser.add_argument("path", type=Path, help="PNG to write.")
    parser.add_argument("--minutes", type=float, default=180.0)
    parser.add_argument("--interval", default="1m", help="For rates; four scrape intervals or more.")
    given = parser.parse_args()
    draw(Source(given.url, 60 * given.minutes, given.interval), given.path)


if __name__ == "__main__":
    main()
