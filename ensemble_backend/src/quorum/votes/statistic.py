# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistic of a votes table: its histogram and names; statistics of shards add up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.histogram import UNLABELLED, Floats, Histogram, histogram
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, NA, Codes, Keys
from quorum.decision.scores import NO_SCORE, levels_of
from quorum.votes.text_rows import TextRows, text_rows, textless_rows
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
            :func:`quorum.decision.parts.find_part`; split by scores where ``scored`` is there. None: not
            computed, so there is no bias for parts.
        scored: The cells again, without gold, split by the scores of their votes. None: no vote has one.
        text: The labelled cells one by one, with what their texts say about values; in a sum, those of a part
            without texts by pattern. None: no labelled cell has a text, or those of a part were not kept.
    """

    members: tuple[str, ...]
    groups: tuple[tuple[str, str], ...]
    hist: Histogram
    products: int = 0
    gold: Histogram | None = None
    scored: Histogram | None = None
    text: TextRows | None = None

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
        scored = None
        if self.scored is not None or other.scored is not None:
            parts = [part.scored or part.hist.unlabelled() for part in (self, other)]
            scored = parts[0].regrouped(maps[0]) + parts[1].regrouped(maps[1])
        text = self._text_with(other, maps)
        return Statistic(self.members, names, hist, self.products + other.products, gold, scored, text)

    def _text_with(self, other: Statistic, maps: list[npt.NDArray[np.int32]]) -> TextRows | None:
        if self.text is None and other.text is None:
            return None
        labelled = [part for part in zip((self, other), maps, strict=True) if part[0].hist.labelled().total]
        rows = [
            known.regrouped(groups)
            for part, groups in labelled
            if (known := part.text or textless_rows(part.gold, len(self.members))) is not None
        ]
        if not rows or len(rows) < len(labelled):
            return None
        return rows[0] if len(rows) == 1 else rows[0] + rows[1]

    def scaled(self, factor: float) -> Statistic:
        """Multiply every count by ``factor`` in (0, 1], to forget old votes."""
        text = None if self.text is None else self.text.scaled(factor)
        return replace(self.mapped(lambda hist: hist.scaled(factor)), text=text)

    def mapped(self, change: Callable[[Histogram], Histogram]) -> Statistic:
        """Apply a function to each histogram; the cells that are kept one by one stay as they are."""
        gold, scored = (None if part is None else change(part) for part in (self.gold, self.scored))
        return replace(self, hist=change(self.hist), gold=gold, scored=scored)

    def of_groups(self, kept: npt.NDArray[np.bool_]) -> Statistic:
        """The statistic of the groups where the (g,) mask is true; products are those of all."""
        if kept.all():
            return self
        number = np.cumsum(kept).astype(np.int32) - 1
        part = self.mapped(lambda hist: hist.take(kept[hist.groups]).regrouped(number))
        text = self.text
        if text is not None:
            rows = kept[text.hist.groups]
            text = text.take(rows).regrouped(number) if rows.any() else None
        names = tuple(name for name, is_kept in zip(self.groups, kept.tolist(), strict=True) if is_kept)
        part = replace(part, groups=names, text=text)
        scored = part.scored
        is_scored = scored is not None and bool((scored.all_levels() != NO_SCORE).any())
        return part if is_scored else part.without_scores()

    def without_scores(self) -> Statistic:
        """The statistic as if no vote had a score."""
        gold = None if self.gold is None else self.gold.without_levels()
        text = None if self.text is None else self.text.without_levels()
        return replace(self, gold=gold, scored=None, text=text)

    def by_attribute(self, scored: Histogram | None = None) -> tuple[tuple[str, ...], Histogram]:
        """Attribute names, sorted, and the histogram, or ``scored``, with one group per attribute."""
        names = tuple(sorted({attribute for _, attribute in self.groups}))
        index = {name: i for i, name in enumerate(names)}
        mapping = np.array([index[attribute] for _, attribute in self.groups], np.int32)
        return names, (self.hist if scored is None else scored).regrouped(mapping)

    def remarks(self, elsewhere: Collection[str] = ()) -> tuple[str, ...]:
        """Describe limits of the votes: silent members, attributes of "n/a" only, unnamed gold.

        ``elsewhere`` are members that voted on other cells than these.
        """
        codes, right, counts = self.hist.codes, self.hist.right, self.hist.counts
        remarks = []
        answered = (codes != ABSTAIN).any(axis=0)
        without = [name for name, has_votes in zip(self.members, answered, strict=True) if not has_votes]
        silent = [name for name in without if name not in elsewhere]
        if silent:
            remarks.append(f"never answered: {', '.join(silent)}; nothing was learned about them")
        if other := [name for name in without if name in elsewhere]:
            remarks.append(
                f"no votes on single values: {', '.join(other)}; what was learned there is not about them"
            )
        names, hist = self.by_attribute()
        highest = np.full(len(names), ABSTAIN, np.int64)
        np.maximum.at(highest, hist.groups, hist.codes.max(axis=1))
        by_name = dict(zip(names, highest.tolist(), strict=True))
        if blank := [name for name, code in by_name.items() if code == NA]:
            remarks.append(f"no member ever named a value, only n/a: {', '.join(blank)}")
        if unanswered := [name for name, code in by_name.items() if code == ABSTAIN]:
            remarks.append(f"all members abstained: {', '.join(unanswered)}")
        labelled, unnamed = counts[right != UNLABELLED].sum(), counts[right == 0].sum()
        if unnamed:
            remarks.append(
                f"{unnamed:.0f} of {labelled:.0f} gold labels are answers that no member named: no weights "
                "get those cells right"
            )
        return tuple(remarks)


def count(
    members: tuple[str, ...],
    groups: tuple[tuple[str, str], ...],
    codes: Codes,
    group: Keys,
    right: Keys,
    parts: Codes,
    products: int,
    scores: npt.NDArray[np.floating[Any]] | None = None,
    text: Floats | None = None,
) -> Statistic:
    """Count the cells of a table, see :class:`quorum.votes.table.CodedVotes` for the arrays.

    ``scores`` is (n, m), nan where a vote has none; None, or nan throughout: no vote has one. ``text`` has
    the (l, m, 16) features of the labelled cells; None: they have no text.
    """
    levels = scored = gold = rows = None
    if scores is not None:
        found = np.where(codes == ABSTAIN, np.int8(NO_SCORE), levels_of(scores))
        levels = found if (found != NO_SCORE).any() else None
    if levels is not None:
        scored = histogram(codes, group, np.full(len(codes), UNLABELLED, np.int64), None, levels)
    labelled = right != UNLABELLED
    both = np.column_stack([codes[labelled], parts[labelled]])
    own = None
    if levels is not None:
        own = np.column_stack([levels[labelled], np.full(len(both), NO_SCORE, np.int8)])
    if len(members) < MAX_MEMBERS:
        gold = histogram(both, group[labelled], right[labelled], None, own)
    if text is not None:
        rows = text_rows(both, group[labelled], right[labelled], own, text)
    hist = histogram(codes, group, right)
    return Statistic(members, groups, hist, products, gold, scored, rows)
