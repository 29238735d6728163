# SPDX-License-Identifier: Apache-2.0
"""Format figures for people."""

from __future__ import annotations

from quorum.reports.figures import NONE, number, number_interval
from quorum_bench.environment import machine_line
from quorum_bench.results import Finding, MetricInfo, PointResult, Results, ScenarioResult

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


def figure_of(finding: Finding) -> str:
    """Format the value of a finding with its unit and interval."""
    if finding.value is None:
        return ""
    unit = f" {finding.unit}" if finding.unit else ""
    v = finding.value
    # Of a single run there is no interval.
    ends = "" if v.low == v.high else f" [{number(v.low)}, {number(v.high)}]"
    return f"{number(v.value)}{unit}{ends}"


def columns(scenario: ScenarioResult, results: Results) -> list[tuple[str, MetricInfo]]:
    """Choose the columns: headline metrics that any point of the scenario has."""
    present = {key for point in scenario.points for key in point.values}
    return [(key, results.metrics[key]) for key in HEADLINE if key in present]


def labels(scenario: ScenarioResult) -> list[str]:
    """All label keys, in order of first occurrence."""
    return list(dict.fromkeys(key for point in scenario.points for key in point.labels))


def cell(point: PointResult, key: str) -> str:
    """Format a point's value of a metric, or a dash."""
    return number(point.values[key].value) if key in point.values else NONE


def interval_cell(point: PointResult, key: str) -> str:
    """Format a point's value of a metric with its interval, or a dash."""
    value = point.values.get(key)
    if value is None:
        return NONE
    return number(value.value) if value.low == value.high else number_interval(value)


def machine(results: Results) -> str:
    """Describe the machine of the run in one line."""
    return machine_line(results.environment)
