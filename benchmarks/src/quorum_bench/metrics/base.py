# SPDX-License-Identifier: Apache-2.0
"""What a metric is: a name, a unit, and a formula over one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from quorum_bench.measure import Run
from quorum_contract.errors import QuorumError


class NoValue(QuorumError):
    """This run has no value of the metric; the message says why, and what would give one."""

    code = "METRIC_HAS_NO_VALUE"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run.

    Attributes:
        key: Name in results and comparisons.
        title: Name in tables.
        unit: Of the value.
        better: Which way is better; empty for a figure that only explains others.
        of: The formula; raises :class:`NoValue`.
        formula: In words, for the report.
    """

    key: str
    title: str
    unit: str
    better: Literal["lower", "higher", ""]
    of: Callable[[Run], float]
    formula: str
