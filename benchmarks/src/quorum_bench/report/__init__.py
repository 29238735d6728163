# SPDX-License-Identifier: Apache-2.0
"""Write results as one self-contained HTML file and as a Markdown summary."""

from __future__ import annotations

from pathlib import Path

from quorum_bench.report.html import html_text
from quorum_bench.report.markdown import honest_line, markdown_text
from quorum_bench.results import Results

REPORT = "report.html"
SUMMARY = "summary.md"


def write_report(results: Results, folder: Path) -> None:
    """Write ``report.html`` and ``summary.md``."""
    (folder / REPORT).write_text(html_text(results), encoding="utf-8")
    (folder / SUMMARY).write_text(markdown_text(results), encoding="utf-8")


__all__ = ["REPORT", "SUMMARY", "honest_line", "write_report"]
