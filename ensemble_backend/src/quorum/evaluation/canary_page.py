# SPDX-License-Identifier: Apache-2.0
"""Render the comparison of the canary with stable as an HTML page."""

from __future__ import annotations

from importlib import resources

from quorum.evaluation.canary import Report
from quorum.evaluation.report import OUTSIDE_NAME, attributes_of
from quorum.reports.page import render


def canary_html(report: Report, done: str | None = None) -> str:
    """Render a comparison, everything inline.

    Args:
        report: The figures and the verdict.
        done: What was done by the verdict, such as "promoted"; None: nothing.

    Raises:
        ReportError: jinja2 or matplotlib is missing; the message names the extra to install.
    """
    template = resources.files("quorum.evaluation").joinpath("canary_report.html.j2")
    changed = [(name, m) for name, m in report.moved.items() if m.changed]
    moved = sorted(changed, key=lambda row: -row[1].changed)
    words = [judgement.worse_in_words() for judgement in report.compared.values()]
    return render(
        template.read_text(encoding="utf-8"),
        r=report,
        done=done,
        worse=[line for line in words if line and not report.trained_on],
        metrics={"right": report.accuracy, "agreement": report.agreement, "confidence": report.confidence},
        compared={other: attributes_of(judgement, other) for other, judgement in report.compared.items()},
        moved=moved,
        unmoved=len(report.moved) - len(moved),
        outside=OUTSIDE_NAME,
    )
