# SPDX-License-Identifier: Apache-2.0
"""Render an evaluation as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from quorum.evaluation.by_attribute import Compared, Judgement
from quorum.evaluation.draws import Spread
from quorum.evaluation.evaluate import Evaluation
from quorum.evaluation.measures import ReliabilityBin
from quorum.evaluation.member_scores import ScoresResult
from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Levels, Row, curve_chart, row_chart
from quorum.reports.figures import points
from quorum.reports.page import render

_ATTRIBUTES_SHOWN = 20
OUTSIDE_NAME = "outside the catalogue"
"""All that a default question asks about counts as one attribute, without a name."""
_SHARE = (0.0, 100.0)
_RIGHT = Axis("right, % (line: 95 % interval)", bounds=_SHARE)
_POINTS = Axis("points (line: 95 % interval)", bounds=(-100.0, 100.0), show=lambda value: points(value / 100))


def report_html(
    evaluation: Evaluation,
    *,
    title: str = "Evaluation of members and methods",
    curve: Mapping[int, Spread] | None = None,
) -> str:
    """Render an evaluation as an HTML page with tables and charts, everything inline.

    Args:
        evaluation: The figures.
        title: Heading of the page.
        curve: Gold labels -> held-out accuracy, from :func:`quorum.evaluation.curve.learning_curve`.

    Raises:
        ReportError: jinja2 or matplotlib is missing; the message names the extra to install.
    """
    template = resources.files("quorum.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    correlation = evaluation.correlation
    compared = evaluation.methods[evaluation.best_method].compared
    return render(
        template,
        e=evaluation,
        title=title,
        accuracy=_accuracy(evaluation),
        reliability=_reliability(evaluation),
        own_reliability=_own_reliability(evaluation.scores) if evaluation.scores else "",
        phi=list(zip(correlation.members, correlation.error_phi, strict=True)),
        compared={other: attributes_of(found, other) for other, found in compared.items()},
        attributes="" if compared else _attributes(evaluation),
        curve=_curve(evaluation, curve) if curve else "",
    )


def attributes_of(found: Judgement, other: str) -> dict[str, Any]:
    """A comparison by attribute for a page: chart, attributes with enough cells, the others, legend."""
    enough = {name: c for name, c in found.by_attribute.items() if c.verdict != "too few cells"}
    few = {name: c for name, c in found.by_attribute.items() if name not in enough}
    return {
        "chart": difference_chart(enough, other),
        "enough": enough,
        "few": few,
        "categories": found.by_category,
        "legend": found.legend,
        "nameless": OUTSIDE_NAME,
    }


def difference_chart(compared: Mapping[str, Compared], other: str) -> str:
    """Chart of differences by attribute, the best first; "" without any."""
    if not compared:
        return ""
    ordered = sorted(compared.items(), key=lambda item: -item[1].difference.value)
    rows = [Row(f"{name or OUTSIDE_NAME} ({c.cells})", hundredfold(c.difference)) for name, c in ordered]
    title = f"Difference of accuracy to {other} by attribute, labelled cells in brackets"
    return row_chart(title, rows, _POINTS, at=0.0)


def hundredfold(share: Estimate) -> Estimate:
    """A share in per cent, or a difference in points."""
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def _accuracy(evaluation: Evaluation) -> str:
    rows = [Row(name, hundredfold(figure), "members") for name, figure in evaluation.members.items()]
    for name, result in evaluation.methods.items():
        rows.append(
            Row(evaluation.label(name), hundredfold(Estimate(result.accuracy, *result.ci95)), "methods")
        )
    return row_chart("Share of labelled cells that members and methods get right", rows, _RIGHT)


def _attributes(evaluation: Evaluation) -> str:
    """Accuracy by attribute where the best method is compared with nothing."""
    shares = evaluation.methods[evaluation.best_method].by_attribute
    most = sorted(shares, key=lambda name: -shares[name][1])[:_ATTRIBUTES_SHOWN]
    rows = [Row(f"{name or OUTSIDE_NAME} ({shares[name][1]})", _exact(shares[name][0])) for name in most]
    return row_chart("Share right by attribute", rows, Axis("right, %", bounds=_SHARE)) if rows else ""


def _reliability(evaluation: Evaluation) -> str:
    curves = {
        f"{evaluation.label(name)} ({result.confidence})": result.reliability
        for name, result in evaluation.methods.items()
    }
    return _diagram("Share right by confidence", curves, "confidence, %")


def _own_reliability(scores: ScoresResult) -> str:
    curves = {name: member.reliability for name, member in scores.members.items()}
    return _diagram("Share right by the probability of the own vote", curves, "probability of the vote, %")


def _diagram(title: str, bins: Mapping[str, Iterable[ReliabilityBin]], x_title: str) -> str:
    curves = {
        name: [(100 * row.confidence, _exact(row.accuracy)) for row in rows] for name, rows in bins.items()
    }
    known = {name: curve for name, curve in curves.items() if curve}
    if not known:
        return ""
    least = min(min(x, y.value) for curve in known.values() for x, y in curve)
    ideal = Levels(ideal=[(least, least), (100.0, 100.0)], ideal_name="as it should be")
    return curve_chart(title, known, Axis(x_title, bounds=_SHARE), Axis("right, %", bounds=_SHARE), ideal)


def _exact(share: float) -> Estimate:
    return Estimate(100 * share, 100 * share, 100 * share)


def _curve(evaluation: Evaluation, curve: Mapping[int, Spread]) -> str:
    member, majority = evaluation.best_member, evaluation.methods["majority"].accuracy
    levels = {"majority": 100 * majority}
    if member and not math.isnan(evaluation.members[member].value):
        levels = {f"best single member ({member})": 100 * evaluation.members[member].value} | levels
    learned = [
        (float(labels), Estimate(100 * s.mean, 100 * s.lowest, 100 * s.highest))
        for labels, s in curve.items()
    ]
    drawn = any(s.lowest != s.highest for s in curve.values())
    name = "learned (band: by the draw of the labels)" if drawn else "learned"
    return curve_chart(
        "Share right, held out, by the number of gold labels", {name: learned},
        Axis("gold labels", is_log=True), Axis("right, %", bounds=_SHARE), Levels(levels),
    )  # fmt: skip
