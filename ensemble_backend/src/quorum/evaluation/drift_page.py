# SPDX-License-Identifier: Apache-2.0
"""Render a day's votes against those of before as an HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from quorum.evaluation.drift import Drift
from quorum.evaluation.report import hundredfold
from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Row, row_chart
from quorum.reports.page import render

_SHARE = Axis("% (line: expected of a member that did not change)", bounds=(0.0, 100.0))

Shares = Iterable[tuple[str, float, float, float, float]]
"""Member, share of the day, expected share, and the ends of its interval."""


def drift_html(drift: Drift, *, title: str = "Do members vote as they did?") -> str:
    """Render the figures of every member, everything inline.

    Raises:
        ReportError: jinja2 or matplotlib is missing; the message names the extra to install.
    """
    template = resources.files("quorum.evaluation").joinpath("drift_report.html.j2")
    return render(
        template.read_text(encoding="utf-8"),
        d=drift,
        title=title,
        disagreement=_chart(
            "Disagreement with the other members, on the day and before",
            ((m.member, m.disagreement, m.expected, m.low, m.high) for m in drift.members),
        ),
        sureness=_chart(
            "Share of sure votes, on the day and before",
            ((m.member, m.sure, m.expected, m.low, m.high) for m in drift.scores or () if m.scored),
        ),
    )


def _chart(title: str, shares: Shares) -> str:
    """Chart of the day's share of each member, next to what is expected; "" without members."""
    rows = []
    for member, day, expected, low, high in shares:
        rows.append(Row(member, hundredfold(Estimate(expected, low, high)), "before"))
        rows.append(Row(member, hundredfold(Estimate(day, day, day)), "this day"))
    return row_chart(title, rows, _SHARE) if rows else ""
