# SPDX-License-Identifier: Apache-2.0
"""Keep labelled cells one by one, with what the product's text says about each value that members named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import leaders
from quorum.decision.evidence import FEATURES, Text, features, is_blank
from quorum.decision.histogram import Floats, Histogram
from quorum.decision.patterns import NA, Codes, Keys

DIGITS = 4
"""Decimals of a feature that are kept: a state is a file of text."""
_REMEMBERED = 8192
"""Cells whose features are kept: folds and draws of labels have the same cells."""


@dataclass(frozen=True, slots=True)
class TextRows:
    """Labelled cells, not counted by pattern: the text tells cells of one pattern apart.

    Attributes:
        hist: One row per cell, sorted by group, with the columns of ``Statistic.gold``; its counts are 1, or
            less after forgetting. Cells of votes without any text may be in one row, which counts them.
        features: (r, m, 16) :data:`quorum.decision.evidence.FEATURES` of the value that each member named;
            nan where it named none, or "n/a", or the cell has no text.
    """

    hist: Histogram
    features: Floats

    def __add__(self, other: TextRows) -> TextRows:
        """The cells of both, of the same members and groups."""
        levels = None
        if self.hist.levels is not None or other.hist.levels is not None:
            levels = np.concatenate([self.hist.all_levels(), other.hist.all_levels()])
        hist = Histogram(
            np.concatenate([self.hist.codes, other.hist.codes]),
            np.concatenate([self.hist.groups, other.hist.groups]),
            np.concatenate([self.hist.right, other.hist.right]),
            np.concatenate([self.hist.counts, other.hist.counts]),
            levels,
        )
        return _sorted(TextRows(hist, np.concatenate([self.features, other.features])))

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> TextRows:
        """The rows where the (r,) mask is true, or those of the given indices."""
        return TextRows(self.hist.take(rows), self.features[rows])

    def scaled(self, factor: float) -> TextRows:
        """Multiply every count by ``factor`` in (0, 1], to forget."""
        return replace(self, hist=self.hist.scaled(factor))

    def regrouped(self, groups: npt.NDArray[np.int32]) -> TextRows:
        """The same cells with group ``g`` renamed (or merged) to ``groups[g]``."""
        return _sorted(replace(self, hist=replace(self.hist, groups=groups[self.hist.groups])))

    def pooled(self) -> TextRows:
        """The same cells in one group."""
        return self.regrouped(np.zeros(self.hist.n_groups, np.int32))

    def first(self, columns: int) -> TextRows:
        """The same cells with their first columns only."""
        levels = None if self.hist.levels is None else self.hist.levels[:, :columns]
        return replace(self, hist=replace(self.hist, codes=self.hist.codes[:, :columns], levels=levels))

    def without_levels(self) -> TextRows:
        """The same cells as if no vote had a score."""
        return replace(self, hist=replace(self.hist, levels=None))


def text_rows(codes: Codes, groups: Keys, right: Keys, levels: Codes | None, features: Floats) -> TextRows:
    """Labelled cells, see :class:`TextRows`, by the codes of any numbering."""
    same = codes[:, :, None] == codes[:, None, :]
    number = np.cumsum(leaders(codes) & (codes > NA), axis=1)
    canonical = np.where(codes > NA, np.take_along_axis(number, same.argmax(axis=2), axis=1), codes)
    ones, kept = np.ones(len(codes)), None if levels is None else levels.astype(np.int8)
    hist = Histogram(canonical.astype(np.int8), groups.astype(np.int32), right.astype(np.int64), ones, kept)
    return _sorted(TextRows(hist, features))


def textless_rows(gold: Histogram | None, members: int) -> TextRows | None:
    """Labelled cells without a text, by pattern as in ``Statistic.gold``; None: they are not known."""
    if gold is None:
        return None
    return TextRows(gold, np.full((len(gold.counts), members, len(FEATURES)), np.nan))


def text_features(titles: Sequence[str], values: Iterable[tuple[str | None, ...]]) -> Floats | None:
    """(n, m, 16) features of the values of cells, see :class:`TextRows`; None if no cell has a text."""
    if all(map(is_blank, titles)):
        return None
    return np.stack([_of_cell(*cell) for cell in zip(titles, values, strict=True)])


@lru_cache(_REMEMBERED)
def _of_cell(title: str, values: tuple[str | None, ...]) -> Floats:
    table = np.full((len(values), len(FEATURES)), np.nan)
    if not is_blank(title):
        for value, numbers in features(Text(title), values).items():
            table[[at for at, own in enumerate(values) if own == value]] = numbers
    return table.round(DIGITS)


def _sorted(rows: TextRows) -> TextRows:
    order = np.argsort(rows.hist.groups, kind="stable")
    return rows if (order[1:] > order[:-1]).all() else rows.take(order)
