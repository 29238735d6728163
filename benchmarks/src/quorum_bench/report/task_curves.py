# SPDX-License-Identifier: Apache-2.0
"""Draw the curves of the study of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Levels, curve_chart
from quorum.reports.drawing import standalone

_RATERS = "rater"


def size_curve(rows: Sequence[Mapping[str, Any]], task: str) -> str:
    """SVG file of the figure of a task by the rows that members are tuned on; "" without any."""
    own = [row for row in rows if row["task"] == task]
    curves: dict[str, list[tuple[float, Estimate]]] = {}
    for row in own:
        if row["rows"]:
            curves.setdefault(row["who"], []).append((row["rows"], _percent(row["figure"])))
    levels = {row["who"]: 100 * row["figure"].value for row in own if not row["rows"]}
    if not curves:
        return ""
    chart = curve_chart(
        f"{task} by the rows that members are tuned on",
        curves,
        Axis("rows tuned on", is_log=True),
        Axis(f"{own[0]['measure']}, %", bounds=(0.0, 100.0)),
        Levels(_named(levels)),
    )
    return standalone(chart)


def _percent(figure: Estimate) -> Estimate:
    return Estimate(100 * figure.value, 100 * figure.low, 100 * figure.high)


def _named(levels: Mapping[str, float]) -> dict[str, float]:
    """Levels without a curve: LLMs that are not tuned, and the best of the raters."""
    people = {name: value for name, value in levels.items() if name.startswith(_RATERS)}
    found = {name: value for name, value in levels.items() if name not in people}
    return found | ({"best rater": max(people.values())} if people else {})
