# SPDX-License-Identifier: Apache-2.0
"""Count agreement patterns, and levels of scores: an additive sufficient statistic of all linear methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.patterns import (
    ABSTAIN,
    NA,
    Codes,
    Keys,
    decode_keys,
    key_space,
    narrowest,
    pattern_keys,
    spread,
)
from quorum.decision.scores import LEVELS, NO_SCORE

Floats = npt.NDArray[np.float64]
UNLABELLED = -1
_DENSE = 1 << 22


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distinct (group, pattern, gold, levels) rows, sorted, with their counts.

    Attributes:
        codes: (r, m) int8 canonical codes, see :mod:`quorum.decision.patterns`.
        groups: (r,) int32, group of the cell (an attribute, or category x attribute), 0 and up.
        right: (r,) int64 bit mask of the members that are right, :data:`UNLABELLED` without gold. A mask of 0
            is a labelled cell whose gold no member named.
        counts: (r,) float64 > 0; fractional after forgetting.
        levels: (r, m) int8 level of each vote's score (:mod:`quorum.decision.scores`), -1 for none; None: the
            cells are not split by scores. The votes may be followed by columns without any.
    """

    codes: npt.NDArray[np.int8]
    groups: npt.NDArray[np.int32]
    right: npt.NDArray[np.int64]
    counts: Floats
    levels: npt.NDArray[np.int8] | None = None

    @property
    def members(self) -> int:
        """Number of members."""
        return self.codes.shape[1]

    @property
    def n_groups(self) -> int:
        """One more than the highest group id, at least 1."""
        return int(self.groups.max(initial=0)) + 1

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """(m,) whether the member ever answered."""
        return np.asarray((self.codes != ABSTAIN).any(axis=0))

    @property
    def total(self) -> float:
        """Number of cells."""
        return float(self.counts.sum())

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of both sets of cells, of the same members and groups."""
        if self.members != other.members:
            raise ValueError(f"cannot add histograms of {self.members} and {other.members} members")
        levels = None
        if self.levels is not None or other.levels is not None:
            levels = np.concatenate([self.all_levels(), other.all_levels()])
        return histogram(
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.right, other.right]),
            np.concatenate([self.counts, other.counts]),
            levels,
        )

    def all_levels(self) -> npt.NDArray[np.int8]:
        """(r, m) levels; -1 throughout where cells are not split by scores."""
        return np.full(self.codes.shape, NO_SCORE, np.int8) if self.levels is None else self.levels

    def scaled(self, factor: float) -> Histogram:
        """Multiply every count by ``factor``, to forget; raises ValueError if it is not in (0, 1]."""
        if not 0.0 < factor <= 1.0:
            raise ValueError(f"factor is {factor}; it must be above 0 and at most 1")
        return replace(self, counts=self.counts * factor)

    def per_group(self, columns: npt.NDArray[Any]) -> Floats:
        """(g, k) sums over the cells of each group of (r, k) numbers per row."""
        n_groups = self.n_groups
        sums = [np.bincount(self.groups, self.counts * column, n_groups) for column in columns.T]
        return np.stack(sums, axis=1).astype(np.float64)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Histogram:
        """The rows where the (r,) mask is true, or those of the given indices."""
        levels = None if self.levels is None else self.levels[rows]
        return Histogram(self.codes[rows], self.groups[rows], self.right[rows], self.counts[rows], levels)

    def labelled(self) -> Histogram:
        """The rows with gold."""
        return self.take(self.right != UNLABELLED)

    def regrouped(self, groups: npt.NDArray[np.int32]) -> Histogram:
        """The same cells with group ``g`` renamed (or merged) to ``groups[g]``."""
        return histogram(self.codes, groups[self.groups], self.right, self.counts, self.levels)

    def unlabelled(self) -> Histogram:
        """All cells, without gold."""
        if (self.right == UNLABELLED).all():
            return self
        unknown = np.full_like(self.right, UNLABELLED)
        return histogram(self.codes, self.groups, unknown, self.counts, self.levels)

    def first(self, columns: int) -> Histogram:
        """All cells with their first columns only."""
        levels = None if self.levels is None else self.levels[:, :columns]
        return histogram(self.codes[:, :columns], self.groups, self.right, self.counts, levels)

    def without_levels(self) -> Histogram:
        """All cells, not split by scores."""
        return self if self.levels is None else histogram(self.codes, self.groups, self.right, self.counts)

    def pooled(self) -> Histogram:
        """All cells in one group."""
        return self.regrouped(np.zeros(self.n_groups, np.int32)) if self.groups.any() else self

    def na_as_value(self) -> Histogram:
        """Treat "n/a" like any value: fewer patterns for methods that do not distinguish it."""
        if not (self.codes == NA).any():
            return self
        codes = np.where(self.codes == NA, np.int8(self.members + 1), self.codes)
        return histogram(codes, self.groups, self.right, self.counts, self.levels)


def histogram(
    codes: Codes,
    groups: Keys | None = None,
    right: Keys | None = None,
    counts: Floats | None = None,
    levels: Codes | None = None,
) -> Histogram:
    """Count cells by pattern.

    Args:
        codes: (n, m) codes, see :mod:`quorum.decision.patterns`.
        groups: (n,) group ids, 0 and up; None: one group.
        right: (n,) bit masks of the members that are right, -1 without gold; None: no gold.
        counts: (n,) how many cells each row stands for; None: one.
        levels: (n, m) level of each vote's score, -1 for none; None: scores do not tell cells apart.

    Raises:
        ValueError: Wrong shape or type.
    """
    return compress(codes, groups, right, counts, levels)[0]


def compress(
    codes: Codes,
    groups: Keys | None = None,
    right: Keys | None = None,
    counts: Floats | None = None,
    levels: Codes | None = None,
) -> tuple[Histogram, Keys]:
    """:func:`histogram` and the (n,) row of each cell: decide rows, then look decisions up per cell."""
    if levels is not None:
        return _compress_scored(codes, groups, right, counts, levels)
    keys, members = pattern_keys(codes), codes.shape[1]
    for name, column in (("groups", groups), ("right", right)):
        if column is not None and column.shape != (len(keys),):
            raise ValueError(f"{name} has shape {column.shape} for {len(keys)} cells")
    patterns, where, seen = ranks(keys, key_space(members))
    group_ids, masks = np.zeros(1, np.int64), np.array([UNLABELLED], np.int64)
    rows = np.arange(len(patterns))
    if groups is not None or right is not None:
        cell, space = where.astype(np.int64), len(patterns)
        if groups is not None:
            group_ids, index, _ = ranks(groups, 0)
            cell += np.multiply(index, space, dtype=np.int64)
            space *= len(group_ids)
        if right is not None:
            masks, index, _ = ranks(right, 0)
            cell *= len(masks)
            cell += index
        rows, where, seen = ranks(cell, space * len(masks))
    totals = seen if counts is None else np.bincount(where, weights=counts, minlength=len(rows))
    rest, mask = np.divmod(rows, len(masks))
    group, pattern = np.divmod(rest, len(patterns))
    hist = Histogram(
        codes=decode_keys(patterns[pattern], members),
        groups=group_ids[group].astype(np.int32),
        right=masks[mask],
        counts=totals.astype(np.float64),
    )
    return hist, where


def _compress_scored(
    codes: Codes, groups: Keys | None, right: Keys | None, counts: Floats | None, levels: Codes
) -> tuple[Histogram, Keys]:
    """:func:`compress` of votes with levels: the rows of votes without, split by the levels of the votes."""
    if levels.shape != codes.shape:
        raise ValueError(f"levels have shape {levels.shape} for codes of shape {codes.shape}")
    plain, where = compress(codes, groups, right)
    keys = np.zeros(len(codes), np.int64)
    for column in levels.T:
        np.multiply(keys, LEVELS + 1, out=keys)
        np.add(keys, np.where(column < 0, 0, column + 1), out=keys)
    known, index, _ = ranks(keys, 0)
    cells = where.astype(np.int64) * len(known) + index
    rows, where, seen = ranks(cells, 0)
    row, key = np.divmod(rows, len(known))
    totals = seen if counts is None else np.bincount(where, weights=counts, minlength=len(rows))
    rest, columns = known[key], np.empty((len(rows), codes.shape[1]), np.int8)
    for j in range(codes.shape[1] - 1, -1, -1):
        rest, digit = np.divmod(rest, LEVELS + 1)
        columns[:, j] = digit - 1
    split = plain.take(row)
    return Histogram(split.codes, split.groups, split.right, totals.astype(np.float64), columns), where


def right_mask(codes: Codes, gold: Keys) -> npt.NDArray[np.int64]:
    """(n,) bit masks of the members that named the gold candidate, -1 where unlabelled.

    Args:
        codes: (n, m) codes.
        gold: (n,) code of the right candidate; -1 unlabelled; a code that no member has: none is right.
    """
    bits = np.int64(1) << np.arange(codes.shape[1], dtype=np.int64)
    masks = ((codes == gold[:, None]) & (codes != ABSTAIN)).astype(np.int64) @ bits
    return np.where(gold == ABSTAIN, np.int64(UNLABELLED), masks)


def right_members(right: npt.NDArray[np.int64], members: int) -> npt.NDArray[np.bool_]:
    """(n, m) whether each member is right, by (n,) bit masks; False throughout for rows without gold."""
    return np.asarray((np.maximum(right, 0)[:, None] >> np.arange(members)) & 1, np.bool_)


def ranks(values: Keys, space: int) -> tuple[npt.NDArray[np.int64], Keys, npt.NDArray[np.int64]]:
    """Sorted distinct values, the index of each value among them, and the count of each.

    Counts instead of sorting where the values, all below ``space`` if that is not 0, lie close together.
    """
    low = 0 if space else int(values.min(initial=0))
    span = space or int(values.max(initial=0)) + 1 - low
    if span > min(_DENSE, 16 * len(values) + 4096):
        unique, inverse, seen = np.unique(values, return_inverse=True, return_counts=True)
        return unique.astype(np.int64), inverse.reshape(-1).astype(np.int64), seen.astype(np.int64)
    shifted = values - low if low else values
    counts = np.bincount(shifted, minlength=span)
    unique = np.flatnonzero(counts)
    rank = np.zeros(span, narrowest(len(unique)))
    rank[unique] = np.arange(len(unique))
    return unique + low, spread(rank, shifted), counts[unique]
