# SPDX-License-Identifier: Apache-2.0
"""Accuracy of decisions and time of aggregation: figures of a votes table, which no load gives."""

from __future__ import annotations

from quorum_bench.metrics.base import Metric, no_value

ACCURACY = Metric(
    "accuracy",
    "accuracy",
    "%",
    "higher",
    no_value("the {members} members' answers have no gold; see the scenario accuracy"),
    "labelled cells decided right / labelled cells",
)
AGGREGATION = Metric(
    "aggregation",
    "aggregation time",
    "ms",
    "lower",
    no_value("a load on {members} members aggregates no table; see the scenario learning"),
    "median over repeats, from cold caches",
)
