# SPDX-License-Identifier: Apache-2.0
"""Charts: a colour for each series, axes that fit the data, a text alternative, names as they are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Levels, Row, curve_chart, event_chart, row_chart
from quorum.reports.drawing import standalone
from quorum.reports.palette import MOST_SERIES

SVG = "{http://www.w3.org/2000/svg}"


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 1, value + 1)


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter(f"{SVG}text")]


def numbers(svg: str) -> list[float]:
    found = (text.replace("\N{MINUS SIGN}", "-") for text in texts(svg))
    return [float(text) for text in found if re.fullmatch(r"-?\d+(\.\d+)?", text)]


def legend_colours(svg: str) -> list[str]:
    legend = next(node for node in ET.fromstring(svg).iter() if node.get("id") == "legend_1")
    return re.findall(r"fill: (var\(--series-\d\)|currentColor); stroke", ET.tostring(legend, "unicode"))


@pytest.mark.parametrize("groups", [1, MOST_SERIES])
def test_every_series_has_a_colour_of_its_own(groups: int) -> None:
    rows = [Row(name, estimate(at), f"load {at}") for at in range(groups) for name in ("one", "other")]
    colours = set(re.findall(r"var\(--series-\d\)", row_chart("t", rows, Axis("x"))))
    assert len(colours) == groups
    curves = {f"c{at}": [(1.0, estimate(at)), (2.0, estimate(at + 1))] for at in range(min(groups, 6))}
    found = curve_chart("t", curves, Axis("x"), Axis("y"))
    assert len(set(re.findall(r"var\(--series-\d\)", found))) == len(curves)


def test_many_curves_get_a_panel_each_and_no_colour_twice() -> None:
    many = 7
    curves = {f"way {at}": [(1.0, estimate(at)), (2.0, estimate(at))] for at in range(many)}
    svg = curve_chart("t", curves, Axis("weeks"), Axis("y"))
    panels = [n for n in ET.fromstring(svg).iter() if re.fullmatch(r"axes_\d+", n.get("id") or "")]
    drawn = [ET.tostring(panel, "unicode") for panel in panels]
    assert sum("--series" in panel for panel in drawn) == many
    assert set(re.findall(r"--series-\d", svg)) == {"--series-1"}
    assert {f"way {at}" for at in range(many)} <= set(texts(svg))


def test_more_series_than_colours_are_rows_of_their_own() -> None:
    rows = [Row("one", estimate(at), f"load {at}") for at in range(MOST_SERIES + 1)]
    svg = row_chart("t", rows, Axis("x"))
    assert set(re.findall(r"--series-\d", svg)) == {"--series-1"}
    assert f"one, load {MOST_SERIES}" in texts(svg)


def test_axes_fit_the_data() -> None:
    ticks = numbers(row_chart("t", [Row("a", estimate(84.0)), Row("b", estimate(86.0))], Axis("%")))
    assert min(ticks) >= 82
    assert max(ticks) <= 88
    near = [Row("a", Estimate(99.5, 99, 100)), Row("b", Estimate(98, 97, 99))]
    assert max(numbers(row_chart("t", near, Axis("%", bounds=(0.0, 100.0))))) <= 100
    far = curve_chart(
        "t", {"": [(1.0, Estimate(1, 1, 1)), (2.0, Estimate(900, 900, 900))]}, Axis("x"), Axis("y")
    )
    assert {"1", "10", "100"} <= set(texts(far))


def test_a_chart_says_what_it_shows_in_words() -> None:
    rows = [Row("a <b> $x_{$", Estimate(84.7, 83.0, 86.2)), Row("c", Estimate(80.0, 79.0, 81.0))]
    root = ET.fromstring(row_chart("Right & wrong", rows, Axis("%")))
    title, words = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert words is not None
    assert title.text == "Right & wrong"
    assert words.text == "a <b> $x_{$: 84.7 [83.0, 86.2]; c: 80.0 [79.0, 81.0]"
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {words.get('id')}"
    assert "a <b> $x_{$" in texts(row_chart("t", rows, Axis("%")))
    curve = curve_chart(
        "t",
        {"own": [(10.0, estimate(5)), (20.0, estimate(7))]},
        Axis("x"),
        Axis("y"),
        Levels({"majority": 6.0}),
    )
    assert "own: 5.00 [4.00, 6.00] at 10.0, 7.00 [6.00, 8.00] at 20.0; majority: 6.00" in curve
    events = event_chart("t", {"v1": [(0.0, 5.0)], "lost": []}, [(0.5, "promote")], Axis("s"), Axis("ms"))
    assert "v1: 1 dots; lost: 0 dots; at 0.500: promote" in events


def test_equal_data_give_equal_charts_and_others_other_ids() -> None:
    one, same, other = (row_chart("t", [Row("a", estimate(v))], Axis("x")) for v in (1.0, 1.0, 2.0))
    assert one == same
    ids = [
        set(re.findall(r' id="(?!axes|figure|patch|matplotlib|xtick|ytick|line2d|text)([^"]+)"', svg))
        for svg in (one, other)
    ]
    assert not ids[0] & ids[1]


def test_a_file_of_its_own_has_the_palette() -> None:
    svg = standalone(row_chart("t", [Row("a", estimate(1.0))], Axis("x")))
    ET.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    assert svg.index("--series-1:") < svg.index("var(--series-1)")
