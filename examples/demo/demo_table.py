# SPDX-License-Identifier: Apache-2.0
"""The demo's result as numbers: who answered, how well, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text

from quorum.evaluation.stats import Estimate, mean_over_products, quantile


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: Who answered.
        accuracy: Share of right cells on the held-out listings, with its 95 % interval over products.
        by_attribute: Attribute -> share of right cells.
        right: [A][P], whether the answer to attribute ``a`` of product ``p`` is right.
        calls: LLM calls that the held-out listings cost.
        latencies_ms: One request at a time.
    """

    name: str
    accuracy: Estimate
    by_attribute: dict[str, float]
    right: list[list[bool]]
    calls: int
    latencies_ms: list[float]

    @property
    def is_alone(self) -> bool:
        """Whether one LLM answered by itself."""
        return self.name.endswith(" alone")

    def percentile_ms(self, q: float) -> float:
        """A percentile of the latencies."""
        return quantile(self.latencies_ms, q / 100)

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


def interval(right: Sequence[Sequence[bool]]) -> Estimate:
    """Share of right cells, with its 95 % interval by bootstrap over products.

    Args:
        right: [A][P], whether the answer to attribute ``a`` of product ``p`` is right.
    """
    return _mean(np.array(right, dtype=np.float64))


def verdict(rows: Sequence[Row]) -> str:
    """Each learned version against the best single LLM and against majority, on the same cells, in words.

    A line per version, with the attributes where it does worst against the one and the other.
    """
    alone = [row for row in rows if row.is_alone]
    best = max(alone, key=lambda row: row.accuracy.value)
    majority, *learned = (row for row in rows if not row.is_alone)
    lines = []
    for row in learned:
        against = "; ".join(f"{_over(row, other)}, {_worst(row, other)}" for other in (best, majority))
        lines.append(f"{row.name}: {against}")
    return "\n".join(lines)


def _over(row: Row, other: Row) -> str:
    return f"{_points(_gain(row, other))} over {other.name}"


def _worst(row: Row, other: Row) -> str:
    """The attribute where a row gains least on another, or loses most."""
    gains = {name: _gain(row, other, [at]) for at, name in enumerate(row.by_attribute)}
    name = min(gains, key=lambda key: gains[key].value)
    return f"least on {name.replace('_', ' ')}: {_points(gains[name])}"


def _gain(row: Row, other: Row, attributes: Sequence[int] | slice = slice(None)) -> Estimate:
    """Gain of one row on another, over some attributes."""
    mine, theirs = (np.array(one.right, dtype=np.float64)[attributes] for one in (row, other))
    return _mean(mine - theirs)


def _points(gain: Estimate) -> str:
    low, value, high = (f"{100 * share:+.1f}" for share in (gain.low, gain.value, gain.high))
    return f"{value} points ({low} to {high})"


def _mean(cells: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Estimate:
    products = np.tile(np.arange(cells.shape[1], dtype=np.int32), cells.shape[0])
    return mean_over_products(cells.reshape(-1), products)


def show_attributes(rows: Sequence[Row]) -> Table:
    """Shares of right cells by attribute, for a terminal; the best of each attribute is bold."""
    attributes = list(rows[0].by_attribute)
    figures = [Column(name.replace("_", " "), justify="right", no_wrap=True) for name in attributes]
    table = Table(Column("right, %", overflow="fold"), *figures, box=SIMPLE)
    best = {name: max(row.by_attribute[name] for row in rows) for name in attributes}
    for row in rows:
        shares = row.by_attribute.items()
        table.add_row(
            Text(row.name),
            *(Text(f"{100 * share:.1f}", "bold" if share == best[name] else "") for name, share in shares),
        )
    return table


def show_table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
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
    return table
