# SPDX-License-Identifier: Apache-2.0
"""Format figures for people."""

from __future__ import annotations

from quorum_bench.environment import machine_line
from quorum_bench.results import Finding, MetricInfo, PointResult, Results, ScenarioResult, Value

HEADLINE = (
    "accuracy",
    "aggregation",
    "latency_p50",
    "latency_p99",
    "throughput",
    "goodput",
    "bulk",
    "refusal_p50",
    "refusal_p99",
    "recovery",
    "cpu",
    "calls",
    "cost",
    "pss",
    "failed",
)


MANY = 80
"""Above so many points the report shows plots, no table."""


def number(value: float) -> str:
    """Format with three significant digits, never an exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.01 else f"{value:.2g}"


def interval(value: Value) -> str:
    """Format the interval of a value."""
    return f"{number(value.low)} to {number(value.high)}"


def figure_of(finding: Finding) -> str:
    """Format the value of a finding with its unit and interval."""
    if finding.value is None:
        return ""
    unit = f" {finding.unit}" if finding.unit else ""
    return f"{number(finding.value.value)}{unit} ({interval(finding.value)})"


def columns(scenario: ScenarioResult, results: Results) -> list[tuple[str, MetricInfo]]:
    """Choose the columns: headline metrics that any point of the scenario has."""
    present = {key for point in scenario.points for key in point.values}
    return [(key, results.metrics[key]) for key in HEADLINE if key in present]


def labels(scenario: ScenarioResult) -> list[str]:
    """All label keys, in order of first occurrence."""
    return list(dict.fromkeys(key for point in scenario.points for key in point.labels))


def cell(point: PointResult, key: str) -> str:
    """Format a point's value of a metric, or a dash."""
    return number(point.values[key].value) if key in point.values else "–"


def machine(results: Results) -> str:
    """Describe the machine of the run in one line."""
    return machine_line(results.environment)
