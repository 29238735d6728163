# SPDX-License-Identifier: Apache-2.0
"""The demo's result as one HTML file with two charts."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from demo_table import Row, changes, verdict, warning
from demo_traffic import Sample

from quorum.evaluation.stats import Estimate
from quorum.reports import charts
from quorum.reports.charts import Axis, event_chart, row_chart
from quorum.reports.page import render

_TEMPLATE = Path(__file__).parent / "demo_report.html.j2"


def write_report(
    path: Path,
    rows: Sequence[Row],
    samples: Sequence[Sample],
    marks: Sequence[tuple[float, str]],
    listings: int,
    lazy: str = "",
) -> None:
    """One HTML file that needs nothing else.

    Args:
        path: Where it goes.
        rows: The table.
        samples: The background stream during the redeploys.
        marks: When something was done to the server, and what; same clock as the samples.
        listings: How many held-out listings the accuracies are over.
        lazy: How the lazy channel's values compare with the full channel's, in words.
    """
    text = render(
        _TEMPLATE.read_text("utf-8"),
        rows=rows,
        verdict=verdict(rows),
        warning=warning(rows),
        lazy=lazy,
        changes=changes(rows),
        attributes=list(rows[0].by_attribute),
        accuracy_plot=_accuracy_plot(rows),
        redeploy_plot=redeploy_plot(samples, marks),
        requests=len(samples),
        failed=sum(s.version is None for s in samples),
        listings=listings,
        **origin(),
    )
    path.write_text(text, "utf-8")


def origin() -> dict[str, str]:
    """When and where a report was made, as its footer says."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def redeploy_plot(samples: Sequence[Sample], marks: Sequence[tuple[float, str]]) -> str:
    """Latency of each request over time, and what was done to the server."""
    versions = sorted({s.version for s in samples if s.version is not None})
    groups = {
        f"version {version}": [(s.at_s, s.latency_ms) for s in samples if s.version == version]
        for version in versions
    }
    lost = [(s.at_s, s.latency_ms) for s in samples if s.version is None]
    return event_chart(
        "Latency of requests while weights are redeployed",
        groups | {f"failed: {len(lost)}": lost},
        marks,
        Axis("seconds of load"),
        Axis("latency, ms"),
    )


def _accuracy_plot(rows: Sequence[Row]) -> str:
    shown = [
        charts.Row(row.name, hundredfold(row.accuracy), "one LLM alone" if row.is_alone else "all LLMs")
        for row in rows
    ]
    title = "Right answers on held-out listings, by who answers"
    return row_chart(title, shown, Axis("right, % (line: 95 % interval)", bounds=(0.0, 100.0)))


def hundredfold(share: Estimate) -> Estimate:
    """A share in per cent."""
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)
