# SPDX-License-Identifier: Apache-2.0
"""The demo's result as numbers: who answered, how well, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from quorum.cli.console import out
from quorum.fit.score import Accuracy, bootstrap_means

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: Who answered.
        accuracy: Share of right cells on the held-out listings, with its 95 % interval over products.
        by_attribute: Attribute -> share of right cells.
        calls: LLM calls that the held-out listings cost.
        latencies_ms: One request at a time.
    """

    name: str
    accuracy: Accuracy
    by_attribute: dict[str, float]
    calls: int
    latencies_ms: list[float]

    def percentile_ms(self, q: float) -> float:
        """A percentile of the latencies."""
        return float(np.percentile(self.latencies_ms, q))

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "accuracy": self.accuracy.value,
            "ci95": [self.accuracy.low, self.accuracy.high],
            "by_attribute": self.by_attribute,
            "llm_calls": self.calls,
            "p50_ms": self.percentile_ms(50),
            "p95_ms": self.percentile_ms(95),
        }


def interval(right: Sequence[Sequence[bool]]) -> Accuracy:
    """Share of right cells, with its 95 % interval by bootstrap over products.

    Args:
        right: [A][P], whether the answer to attribute ``a`` of product ``p`` is right.
    """
    cells = np.array(right, dtype=np.float64)
    products = np.tile(np.arange(cells.shape[1], dtype=np.int32), cells.shape[0])
    low, high = np.percentile(
        bootstrap_means(cells.reshape(-1, 1), products, _RESAMPLES, seed=0), [2.5, 97.5]
    )
    return Accuracy(float(cells.mean()), float(low), float(high))


def print_table(rows: Sequence[Row]) -> None:
    """The table on standard output."""
    table = Table("who answers", "right", "95 % interval", "LLM calls", "p50 ms", "p95 ms")
    best = max(row.accuracy.value for row in rows)
    for row in rows:
        style = "bold" if row.accuracy.value == best else None
        a = row.accuracy
        table.add_row(
            row.name,
            f"{a.value:.1%}",
            f"{a.low:.1%} - {a.high:.1%}",
            str(row.calls),
            f"{row.percentile_ms(50):.0f}",
            f"{row.percentile_ms(95):.0f}",
            style=style,
        )
    out.print(table)
