# SPDX-License-Identifier: Apache-2.0
"""Pairs without a judgement: near ones for the cross-encoder to label, random ones taken as irrelevant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.distill.assistant import PairTexts
from quorum.distill.lessons import pairs_of
from quorum.distill.mine import mine, random_pairs
from quorum.distill.student import Lesson, Texts
from quorum.retrieval.judged import Judged
from quorum.retrieval.vectors import cut

Rows = npt.NDArray[np.int64]


class Candidates(NamedTuple):
    """Items and keyphrases that pairs are drawn of.

    Attributes:
        items: Rows of the items.
        keyphrases: Rows of the keyphrases.
        known: Judged pairs, by their places in these.
    """

    items: Rows
    keyphrases: Rows
    known: set[tuple[int, int]]

    @classmethod
    def of(
        cls, items: Iterable[int], keyphrases: Iterable[int], judged: Iterable[tuple[int, int]]
    ) -> Candidates:
        """Of rows; ``judged`` pairs of other rows do not count."""
        rows, columns = list(items), list(keyphrases)
        places = {row: place for place, row in enumerate(rows)}
        of_column = {row: place for place, row in enumerate(columns)}
        known = {
            (places[item], of_column[keyphrase])
            for item, keyphrase in judged
            if item in places and keyphrase in of_column
        }
        return cls(np.array(rows, np.int64), np.array(columns, np.int64), known)

    def random(self, count: int, seed: int) -> Lesson:
        """Random pairs, taken as irrelevant; see :func:`quorum.distill.mine.random_pairs`."""
        found = random_pairs(len(self.items), len(self.keyphrases), self.known, count, seed)
        zeros = np.zeros(len(found), np.float32)
        return Lesson("judge", self.items[found[:, 0]], self.keyphrases[found[:, 1]], zeros)

    def near(self, texts: Texts, most: int, seed: int) -> tuple[Rows, Rows]:
        """Rows of pairs that the base's vectors find near; see :func:`quorum.distill.mine.mine`."""
        size = texts.item_vectors.shape[1]
        items = cut(texts.item_vectors[self.items], size)
        keyphrases = cut(texts.keyphrase_vectors[self.keyphrases], size)
        found = mine(items, keyphrases, self.known, most, seed)
        return self.items[found[:, 0]], self.keyphrases[found[:, 1]]


def pair_texts(judged: Judged) -> PairTexts:
    """The texts of judged pairs, with their labels."""
    pairs = pairs_of(judged)
    return PairTexts([item for item, _ in pairs], [keyphrase for _, keyphrase in pairs], judged.labels)


def with_more(own: PairTexts, more: Lesson, items: Sequence[str], keyphrases: Sequence[str]) -> PairTexts:
    """Pairs, and those of a lesson, whose rows are of these texts."""
    return PairTexts(
        [*own.items, *(items[row] for row in more.items)],
        [*own.keyphrases, *(keyphrases[row] for row in more.keyphrases)],
        np.concatenate([own.labels, more.targets]),
    )
