# SPDX-License-Identifier: Apache-2.0
"""Define a metric: a name, a unit, and a formula over one run."""

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


def per_1000_answers(run: Run, amount: float) -> float:
    """Return an amount of the window per 1 000 answers.

    Raises:
        NoValue: There were none.
    """
    if not run.answered:
        raise NoValue("nothing was answered")
    return amount / run.answered * 1000.0


def no_value(reason: str) -> Callable[[Run], float]:
    """Return the formula of a metric that no load gives; ``{members}`` in the reason is their number."""

    def formula(run: Run) -> float:
        raise NoValue(reason.format(members=len(run.members)))

    return formula
