# SPDX-License-Identifier: Apache-2.0
"""Pages: one style, text escaped, nothing from elsewhere; figures: one style of intervals."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from quorum.evaluation.stats import Estimate
from quorum.reports.charts import Axis, Row, row_chart
from quorum.reports.figures import number, number_interval, percent, percent_interval, points, points_interval
from quorum.reports.page import render

ROOT = Path(__file__).parents[3]
TEMPLATE = """{% extends "page.html.j2" %}{% import "parts.html.j2" as parts %}
{% block title %}{{ title }}{% endblock %}
{% block content %}{{ parts.chart(chart, title) }}
{{ parts.figure(f.percent_interval(share)) }}{% endblock %}"""


def test_text_is_escaped_and_charts_are_not() -> None:
    chart = row_chart("t", [Row("<i>name</i>", Estimate(1, 0, 2))], Axis("x"))
    page = render(TEMPLATE, title="<script>x</script> & y", chart=chart, share=Estimate(0.847, 0.83, 0.862))
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "<i>" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt; &amp; y") == 4
    assert "84.7 <small>[83.0, 86.2]</small>" in page


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = render(TEMPLATE, title="t", chart="", share=Estimate(1, 1, 1))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.findall(r"(?:src|href)=|url\(|@import", page)
    assert "prefers-color-scheme:dark" in page


def test_templates_share_the_style_and_escape_everything() -> None:
    templates = [
        path
        for folder in ("ensemble_backend/src", "benchmarks/src", "examples")
        for path in (ROOT / folder).rglob("*.j2")
    ]
    assert len(templates) >= 5
    for path in templates:
        text = path.read_text("utf-8")
        assert "| safe" not in text, path
        if path.parent.name != "reports":
            assert text.startswith('{% extends "page.html.j2" %}'), path
            assert "<style" not in text, path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (percent(0.8467), "84.7"),
        (percent(None), "–"),
        (percent(math.nan), "–"),
        (points(0.012), "+1.2"),
        (points(-0.0001), "0.0"),
        (percent_interval(Estimate(0.847, 0.83, 0.862)), "84.7 [83.0, 86.2]"),
        (points_interval(Estimate(0.012, -0.003, 0.027)), "+1.2 [-0.3, +2.7]"),
        (points_interval(Estimate(0.012, math.nan, math.nan)), "+1.2"),
        (number_interval(Estimate(1234, 1200, 1300)), "1 234 [1 200, 1 300]"),
        (number(0.00123), "0.0012"),
        (number(math.nan), "–"),
    ],
)
def test_figures_and_intervals_have_one_style(text: str, shown: str) -> None:
    assert text == shown
