# SPDX-License-Identifier: Apache-2.0
"""Write the HTML report."""

from __future__ import annotations

from pathlib import Path

from quorum.reports.page import render
from quorum_bench.report import figures
from quorum_bench.report.markdown import honest_line
from quorum_bench.report.plots import draw
from quorum_bench.results import Results

_TEMPLATE = Path(__file__).parent / "report.html.j2"


def html_text(results: Results) -> str:
    """Return one self-contained HTML file."""
    return render(
        _TEMPLATE.read_text("utf-8"),
        r=results,
        b=figures,
        line=honest_line(results),
        plots={
            scenario.name: [(plot, svg) for plot in scenario.plots if (svg := draw(plot, scenario, results))]
            for scenario in results.scenarios
        },
    )
