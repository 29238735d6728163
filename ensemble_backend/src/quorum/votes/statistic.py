# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistic of a votes table: its histogram and names; statistics of shards add up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quorum.decision.histogram import UNLABELLED, Histogram
from quorum.decision.patterns import ABSTAIN, NA
from quorum_contract.errors import QuorumError


class StatisticError(QuorumError, ValueError):
    """Two statistics cannot be added; the message says why."""

    code = "STATISTICS_DIFFER"


@dataclass(frozen=True, slots=True)
class Statistic:
    """The part of a votes table that learning uses.

    Attributes:
        members: Member names.
        groups: (category, attribute) of each group id of the histogram, sorted.
        hist: Histogram over these groups.
        products: Distinct products; a sum of statistics counts a product once per part that it is in.
        gold: The labelled cells again, with a last column: the code of the value that is part of others, see
            :func:`quorum.decision.parts.find_part`. None: not computed, so there is no bias for parts.
    """

    members: tuple[str, ...]
    groups: tuple[tuple[str, str], ...]
    hist: Histogram
    products: int = 0
    gold: Histogram | None = None

    def __add__(self, other: Statistic) -> Statistic:
        """The statistic of both tables; raises StatisticError for other members, or another order."""
        if self.members != other.members:
            raise StatisticError(
                f"members {list(self.members)} and {list(other.members)} differ; only votes of the "
                "same members, in the same order, can be added"
            )
        names = tuple(sorted({*self.groups, *other.groups}))
        index = {name: i for i, name in enumerate(names)}
        maps = [np.array([index[name] for name in part.groups], np.int32) for part in (self, other)]
        hist = self.hist.regrouped(maps[0]) + other.hist.regrouped(maps[1])
        gold = None
        if self.gold is not None and other.gold is not None:
            gold = self.gold.regrouped(maps[0]) + other.gold.regrouped(maps[1])
        return Statistic(self.members, names, hist, self.products + other.products, gold)

    def scaled(self, factor: float) -> Statistic:
        """Multiply every count by ``factor`` in (0, 1], to forget old votes."""
        gold = None if self.gold is None else self.gold.scaled(factor)
        return replace(self, hist=self.hist.scaled(factor), gold=gold)

    def by_attribute(self) -> tuple[tuple[str, ...], Histogram]:
        """Attribute names, sorted, and the histogram with one group per attribute."""
        names = tuple(sorted({attribute for _, attribute in self.groups}))
        index = {name: i for i, name in enumerate(names)}
        mapping = np.array([index[attribute] for _, attribute in self.groups], np.int32)
        return names, self.hist.regrouped(mapping)

    def remarks(self) -> tuple[str, ...]:
        """Describe limits of the votes: silent members, attributes of "n/a" only, unnamed gold."""
        codes, right, counts = self.hist.codes, self.hist.right, self.hist.counts
        remarks = []
        answered = (codes != ABSTAIN).any(axis=0)
        silent = [name for name, has_votes in zip(self.members, answered, strict=True) if not has_votes]
        if silent:
            remarks.append(f"never answered: {', '.join(silent)}; nothing was learned about them")
        names, hist = self.by_attribute()
        valued = np.bincount(hist.groups, (hist.codes > NA).any(axis=1), len(names)) > 0
        blank = [name for name, any_value in zip(names, valued, strict=True) if not any_value]
        if blank:
            remarks.append(f"no member ever named a value, only n/a: {', '.join(blank)}")
        labelled, unnamed = counts[right != UNLABELLED].sum(), counts[right == 0].sum()
        if unnamed:
            remarks.append(
                f"{unnamed:.0f} of {labelled:.0f} gold labels are answers that no member named: no weights "
                "get those cells right"
            )
        return tuple(remarks)
