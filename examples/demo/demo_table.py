# SPDX-License-Identifier: Apache-2.0
"""The demo's result as numbers: who answered, how well, at what cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text

from quorum.evaluation.by_attribute import Judgement, judge
from quorum.evaluation.stats import Estimate, mean_over_products, quantile
from quorum.reports.figures import percent, percent_interval, points_in_words, points_interval
from quorum_client import Answer, Extraction, Status

LAZY_ROW = "learned, lazy (version 3)"
"""Name of the row of the lazy channel, which answers by the weights of the row before it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: Who answered.
        accuracy: Share of right cells on the held-out listings, with its 95 % interval over products.
        by_attribute: Attribute -> share of right cells.
        right: [A][P], whether the answer to attribute ``a`` of product ``p`` is right.
        calls: LLM calls per answer.
        tokens: Tokens per answer, of prompts and of what LLMs wrote.
        llm_ms: Time that LLMs worked per answer.
        latencies_ms: One request at a time.
    """

    name: str
    accuracy: Estimate
    by_attribute: dict[str, float]
    right: list[list[bool]]
    calls: float
    tokens: float
    llm_ms: float
    latencies_ms: list[float]

    @property
    def is_alone(self) -> bool:
        """Whether one LLM answered by itself."""
        return self.name.endswith(" alone")

    @property
    def is_lazy(self) -> bool:
        """Whether members were asked in rows."""
        return self.name == LAZY_ROW

    @property
    def total_calls(self) -> int:
        """LLM calls about all listings."""
        return round(self.calls * len(self.right[0]))

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
            "calls": self.total_calls,
            "calls_per_answer": self.calls,
            "tokens_per_answer": self.tokens,
            "llm_ms_per_answer": self.llm_ms,
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
    majority, *learned = _versions(rows)
    lines = []
    for row in learned:
        against = "; ".join(f"{_over(row, other)}, {_worst(row, other)}" for other in (best, majority))
        lines.append(f"{row.name}: {against}")
    return "\n".join(lines)


def compare_lazy(full: Sequence[Extraction], lazy: Sequence[Extraction]) -> str:
    """How many values of the lazy channel are the full channel's, why others are not, and what was spared.

    Args:
        full: Answers of the full channel.
        lazy: Of the lazy one, about the same listings.
    """
    cells = list(zip(_answers(full), _answers(lazy), strict=True))
    votes = [vote for _, answer in cells for vote in answer.votes]
    spared = sum(vote.status is Status.NOT_ASKED for vote in votes) / len(votes)
    differ = [(whole, part) for whole, part in cells if whole.value != part.value]
    line = (
        f"{LAZY_ROW}: values equal to the full channel's in {len(cells) - len(differ)} of {len(cells)} cells"
    )
    if differ:
        other = sum(_voted_otherwise(whole, part) for whole, part in differ)
        line += f" (in {other} of the other {len(differ)}, an LLM asked for fewer attributes voted otherwise)"
    return f"{line}, with {1 - spared:.1%} of the votes"


def _answers(results: Sequence[Extraction]) -> list[Answer]:
    return [answer for result in results for answer in result.answers]


def _voted_otherwise(full: Answer, lazy: Answer) -> bool:
    """Whether a member that was asked gave another value, or was not as sure of it."""
    pairs = zip(full.votes, lazy.votes, strict=True)
    return any(part.status is not Status.NOT_ASKED and part != whole for whole, part in pairs)


def _over(row: Row, other: Row) -> str:
    return f"{points_in_words(_gain(row, other))} over {other.name}"


def _worst(row: Row, other: Row) -> str:
    """The attribute where a row gains least on another, or loses most."""
    gains = {name: _gain(row, other, [at]) for at, name in enumerate(row.by_attribute)}
    name = min(gains, key=lambda key: gains[key].value)
    return f"least on {name.replace('_', ' ')}: {points_in_words(gains[name])}"


def _gain(row: Row, other: Row, attributes: Sequence[int] | slice = slice(None)) -> Estimate:
    """Gain of one row on another, over some attributes."""
    mine, theirs = (np.array(one.right, dtype=np.float64)[attributes] for one in (row, other))
    return _mean(mine - theirs)


def _mean(cells: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Estimate:
    products = np.tile(np.arange(cells.shape[1], dtype=np.int32), cells.shape[0])
    return mean_over_products(cells.reshape(-1), products)


def changes(rows: Sequence[Row]) -> dict[str, Judgement]:
    """What each learned version changes by attribute, against majority and the version that was live before.

    By a heading for people, in the order of the rows.
    """
    majority, *learned = _versions(rows)
    found, live = {}, majority
    for row in learned:
        for other in (majority, live) if live is not majority else (majority,):
            found[f"{_short(row)} to {_short(other)}"] = _judge(row, other)
        live = row
    return found


def warning(rows: Sequence[Row]) -> str:
    """The attributes on which a learned version is worse, in one line; "" if there is none."""
    parts = [(name, judged.worse_in_words()) for name, judged in changes(rows).items()]
    return "; ".join(
        f"{name.replace(' to ', ' is worse than ')} on {words}" for name, words in parts if words
    )


def show_changes(rows: Sequence[Row]) -> Table:
    """The changes by attribute for a terminal, in points with their intervals; what is sure is marked."""
    found = changes(rows)
    columns = [Column(name.replace(" to ", "\nto "), justify="right", no_wrap=True) for name in found]
    table = Table(Column("points [95 %]", overflow="fold"), *columns, box=SIMPLE, padding=(0, 1, 0, 0))
    styles = {"worse": "bold red", "better": "green"}
    for name in rows[0].by_attribute:
        cells = [judged.by_attribute[name] for judged in found.values()]
        shown = (Text(points_interval(c.difference), styles.get(c.verdict, "")) for c in cells)
        table.add_row(Text(name.replace("_", " ")), *shown)
    return table


def _versions(rows: Sequence[Row]) -> list[Row]:
    """The rows of the full channel's versions."""
    return [row for row in rows if not row.is_alone and not row.is_lazy]


def _short(row: Row) -> str:
    """The version of a row, or its name."""
    return f"version {found[1]}" if (found := re.search(r"\(version (\d+)\)", row.name)) else row.name


def _judge(row: Row, other: Row) -> Judgement:
    kinds = [("", name) for name, hits in zip(row.by_attribute, row.right, strict=True) for _ in hits]
    products = np.concatenate([np.arange(len(hits), dtype=np.int32) for hits in row.right])
    return judge(kinds, products, np.concatenate(row.right), np.concatenate(other.right), _short(other))


def show_attributes(rows: Sequence[Row]) -> Table:
    """Shares of right cells by attribute, for a terminal."""
    attributes = list(rows[0].by_attribute)
    figures = [Column(name.replace("_", " "), justify="right", no_wrap=True) for name in attributes]
    table = Table(Column("right, %", overflow="fold"), *figures, box=SIMPLE)
    for row in rows:
        table.add_row(Text(row.name), *map(percent, row.by_attribute.values()))
    return table


def show_table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal; "calls" are about all listings, what follows is per answer."""
    heads = ("right, % [95 %]", "calls", "each", "tokens", "p50 ms", "p95 ms")
    columns = [Column(head, justify="right", no_wrap=True) for head in heads]
    table = Table(Column("who answers", overflow="fold"), *columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(
            Text(row.name),
            percent_interval(row.accuracy),
            str(row.total_calls),
            f"{row.calls:.2f}",
            f"{row.tokens:.0f}",
            f"{row.percentile_ms(50):.0f}",
            f"{row.percentile_ms(95):.0f}",
        )
    return table
