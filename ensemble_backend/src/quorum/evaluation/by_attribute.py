# SPDX-License-Identifier: Apache-2.0
"""Compare two sets of decisions on the same labelled cells, attribute by attribute and by category.

An attribute is named better or worse if more products gain, or lose, than chance would bring (the sign test,
exact), tested on all attributes with enough cells together: by Holm's method (Scandinavian Journal of
Statistics 6, 1979) a comparison of two that are equally good names any attribute worse in at most one of 40,
and any at all in one of 20, however many attributes there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.catalogue_change import named
from quorum.evaluation.measures import Flags
from quorum.evaluation.stats import (
    RESAMPLES,
    TAIL_95,
    Estimate,
    binomial_tail,
    percentile_interval,
    unseen_share,
)
from quorum.records import Record
from quorum.reports.figures import points_in_words
from quorum.votes.table import VotesTable

LEAST_CELLS = 20
"""Labelled cells below which nothing is claimed of an attribute."""
FALL = 0.03
"""A fall that counts, in accuracy, where several draws of labels are compared."""

Outcome = Literal["better", "worse", "unclear", "too few cells"]
Kind = tuple[str, str]
"""Category and attribute of a cell."""


@dataclass(frozen=True, slots=True)
class Compared(Record):
    """Two sets of decisions on the labelled cells of one attribute, or category; shares in [0, 1].

    Attributes:
        accuracy: Share decided right by the one; ``other``: by the other.
        difference: ``accuracy - other``, with its own 95 % interval over products, and over draws of labels.
        cells: Number of cells, of ``products`` products.
        verdict: Of the one; see the module. "unclear": no difference shows.
        falls: With several draws of labels, in how many the one is lower by more than :data:`FALL`.
    """

    accuracy: float
    other: float
    difference: Estimate
    cells: int
    products: int
    verdict: Outcome
    falls: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, ``difference`` and its interval ``ci95`` apart."""
        delta = self.difference
        return Record.to_json(self) | {"difference": delta.value, "ci95": [delta.low, delta.high]}


@dataclass(frozen=True, slots=True)
class Judgement(Record):
    """One set of decisions against another.

    Attributes:
        against: Name of the other.
        by_attribute: By attribute, all of them.
        by_category: By category, those with :data:`LEAST_CELLS` cells, where there are several.
        draws: Number of draws of the labels that the one was learned from.
        margin: What an attribute may be lower and not be called worse, in [0, 1].
    """

    against: str
    by_attribute: Mapping[str, Compared]
    by_category: Mapping[str, Compared]
    draws: int = 1
    margin: float = 0.0

    @property
    def worse(self) -> list[str]:
        """Attributes on which the one is worse, beyond its margin, the worst first."""
        found = {name: c for name, c in self.by_attribute.items() if c.verdict == "worse"}
        return sorted(found, key=lambda name: found[name].difference.value)

    @property
    def too_few(self) -> list[str]:
        """Attributes with too few labelled cells to say anything."""
        return [name for name, c in self.by_attribute.items() if c.verdict == "too few cells"]

    @property
    def legend(self) -> list[str]:
        """Sentences, for people, on what the verdicts and counts of the tables mean where they surprise."""
        rows = {**self.by_attribute, **self.by_category}
        chance = [name for name, c in rows.items() if c.verdict == "unclear" and self._leaves_0_out(c)]
        lines = []
        if any(c.falls is not None for c in rows.values()):
            lines.append(
                f"Falls: in how many of the {self.draws} draws of labels it is lower by more than "
                f"{100 * FALL:.0f} points."
            )
        if chance:
            lines.append(
                f"{named(chance)}: neither better nor worse, though 0 is outside the interval: rows are "
                "tested together, and one interval in 20 leaves 0 out by chance."
            )
        return lines

    def _leaves_0_out(self, found: Compared) -> bool:
        delta = found.difference
        return delta.low > 0.0 or (delta.high < 0.0 and delta.value < -self.margin)

    def worse_in_words(self) -> str:
        """The attributes that are worse, with their differences; "" if there is none."""
        return ", ".join(f"{name} ({self._figures(self.by_attribute[name])})" for name in self.worse)

    def _figures(self, found: Compared) -> str:
        falls = f", more than {100 * FALL:.0f} points in {found.falls} of {self.draws} draws"
        return points_in_words(found.difference) + (falls if found.falls is not None else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``worse`` lists the attributes that are worse."""
        return Record.to_json(self) | {"worse": self.worse}


def kinds_of(table: VotesTable) -> list[Kind]:
    """Category and attribute of each labelled cell of a table."""
    return [table.group_names[group] for group in table.groups[table.labelled].tolist()]


def headline(compared: Mapping[str, Judgement]) -> str:
    """Name, in one line, the attributes that are worse, by what they are worse than; "" if there is none."""
    parts = [(name, found.worse_in_words()) for name, found in compared.items()]
    return "; ".join(f"worse than {name} on {words}" for name, words in parts if words)


def judge(
    kinds: Sequence[Kind],
    products: npt.NDArray[np.int32],
    own: Floats | Flags,
    other: Floats | Flags,
    against: str,
    *,
    margin: float = 0.0,
    seed: int = 0,
) -> Judgement:
    """Compare which cells two sets of decisions get right.

    Args:
        kinds: (n,) of the labelled cells.
        products: (n,) product of each.
        own: (n,) or (n, d) 1 where the one is right, else 0; d: draws of the labels it was learned from.
        other: (n,) or (n, d) of the other.
        against: Name of the other.
        margin: What an attribute may be lower and not be called worse, in [0, 1].
        seed: Of the intervals.
    """
    columns = [np.asarray(cells, np.float64).reshape(len(kinds), -1) for cells in (own, other)]
    categories, attributes = (np.array(names) for names in zip(*kinds, strict=True))
    by_attribute = _by(attributes, products, columns, margin, seed)
    several = len(set(categories.tolist())) > 1
    by_category = _by(categories, products, columns, margin, seed) if several else {}
    enough = {name: found for name, found in by_category.items() if found.verdict != "too few cells"}
    return Judgement(against, by_attribute, enough, columns[0].shape[1], margin)


def difference(gains: Floats, products: npt.NDArray[np.int32], seed: int = 0) -> Estimate:
    """Mean of differences in [-1, 1] per cell, with its 95 % interval over products and draws.

    Where all products are alike, a bootstrap has no width: then others may yet differ, by as much as
    :func:`quorum.evaluation.stats.unseen_share`.

    Args:
        gains: (n,) or (n, d) for d draws of labels, of which each resample takes one.
        products: (n,) product of each cell.
        seed: Of the bootstrap.
    """
    columns, value = gains.reshape(len(gains), -1), float(gains.mean())
    names, number = np.unique(products, return_inverse=True)
    sums = [np.bincount(number, column, len(names)) for column in columns.T]
    # Products with the same figures are drawn together: the same distribution, a fraction of the draws.
    rows, counts = np.unique(np.column_stack([np.bincount(number), *sums]), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), counts / len(names), RESAMPLES)
    means = (drawn @ rows[:, 1:]) / (drawn @ rows[:, :1])
    chosen = rng.integers(columns.shape[1], size=(RESAMPLES, 1))
    low, high = percentile_interval(np.take_along_axis(means, chosen, axis=1)[:, 0])
    if high - low < 1e-9:
        unseen = unseen_share(len(names), TAIL_95)
        low, high = max(-1.0, value - unseen), min(1.0, value + unseen)
    return Estimate(value, float(low), float(high))


def _by(
    names: npt.NDArray[np.str_],
    products: npt.NDArray[np.int32],
    columns: Sequence[Floats],
    margin: float,
    seed: int,
) -> dict[str, Compared]:
    """Compare the cells of each name; the tests of all names count as one."""
    own, other = columns
    rows = {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
    chances = {
        name: _chance((own[at] - other[at]).mean(axis=1), products[at])
        for name, at in rows.items()
        if len(at) >= LEAST_CELLS
    }
    shown = _shown_by_holm(chances)
    found = {}
    for name, at in rows.items():
        gains = own[at] - other[at]
        delta = difference(gains, products[at], seed)
        verdict: Outcome = "unclear" if name in chances else "too few cells"
        if name in shown:
            verdict = "better" if delta.value > 0 else "worse" if delta.value < -margin else "unclear"
        falls = int((gains.mean(axis=0) < -FALL).sum()) if gains.shape[1] > 1 else None
        shares = float(own[at].mean()), float(other[at].mean())
        found[name] = Compared(*shares, delta, len(at), len(np.unique(products[at])), verdict, falls)
    return found


def _chance(gains: Floats, products: npt.NDArray[np.int32]) -> float:
    """Two-sided p-value of the sign test over products, of (n,) differences per cell."""
    _, number = np.unique(products, return_inverse=True)
    sums = np.bincount(number, gains).round(9)
    lost, gained = int((sums < 0).sum()), int((sums > 0).sum())
    return min(1.0, 2.0 * binomial_tail(max(lost, gained), lost + gained, 0.5))


def _shown_by_holm(chances: Mapping[str, float]) -> set[str]:
    """Names of which the difference is no chance, by Holm's step-down method."""
    shown = set()
    for left, name in enumerate(sorted(chances, key=lambda key: chances[key])):
        if chances[name] > 2 * TAIL_95 / (len(chances) - left):
            break
        shown.add(name)
    return shown
