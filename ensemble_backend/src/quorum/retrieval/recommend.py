# SPDX-License-Identifier: Apache-2.0
"""Recommend keyphrases for items: encode, search, filter, and search further while filters leave too few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quorum.retrieval.filters import Mask, far_apart, first_of_each, read_blocklist
from quorum.retrieval.index import MISSING, Index, open_index
from quorum.retrieval.keyphrases import Keyphrases
from quorum.retrieval.manifest import ManifestError, RetrieverManifest
from quorum.retrieval.vectors import Found, Vectors, cut, exact_top
from quorum_contract.errors import QuorumError

_MORE = 4
Encode = Callable[[Sequence[str]], Vectors]
"""(n, any) float32 vectors of items' texts, not normalised."""


class RecommendFailed(QuorumError, RuntimeError):
    """An item could not be encoded or searched."""

    code = "RECOMMEND_FAILED"


class Asked(NamedTuple):
    """One item.

    Attributes:
        text: Its text.
        category: Its leaf category; "": keyphrases of all categories.
        limit: How many keyphrases are wanted, from 1.
        min_score: The lowest score of one, in [-1, 1].
    """

    text: str
    category: str
    limit: int
    min_score: float


class Recommended(NamedTuple):
    """Keyphrases for an item, the best first, and their cosines in [-1, 1]."""

    keyphrases: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class Recommender:
    """The index and the keyphrases of a version.

    Attributes:
        dims: Dimensions of the index; longer vectors are cut to it.
        near_identical: Cosine from which two keyphrases count as the same; None: by their spelling only.
    """

    index: Index
    keyphrases: Keyphrases
    dims: int
    near_identical: float | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        manifest: RetrieverManifest,
        blocklist: Path | None = None,
        near_identical: float | None = None,
    ) -> Recommender:
        """Open a version's folder; its hashes are not checked (:mod:`quorum.retrieval.manifest`).

        Raises:
            ManifestError: A file is damaged, they do not fit each other, or the blocklist cannot be read.
        """
        blocked = frozenset() if blocklist is None else read_blocklist(blocklist)
        index, keyphrases = open_index(folder, manifest), Keyphrases(folder, blocked)
        if len(keyphrases) != manifest.keyphrases:
            raise ManifestError(
                f"{folder} has {len(keyphrases)} keyphrases, retriever.json says {manifest.keyphrases}; make"
                " the version again with `quorum index`"
            )
        return cls(index, keyphrases, manifest.dims, near_identical)

    def recommend(self, asked: Sequence[Asked], encode: Encode) -> list[Recommended]:
        """Recommend keyphrases for each item; see :meth:`each`."""
        found = dict(self.each(asked, encode))
        return [found[at] for at in range(len(asked))]

    def each(
        self, asked: Sequence[Asked], encode: Encode, is_over: Callable[[int], bool] = lambda at: False
    ) -> Iterator[tuple[int, Recommended]]:
        """Yield the place of each item with its keyphrases, as they are found; fewer where no more are left.

        An item whose vector is 0, as of a text without a word, gets none. One whose filters leave little, as
        a rare category does, is searched further after the others, so that it does not hold them up.

        Args:
            asked: Items.
            encode: Turns their texts into vectors.
            is_over: Asked before each search with the place of an item: whether no caller waits for it.
                Such an item is not searched further, and gets nothing.
        """
        vectors = cut(encode([item.text for item in asked]), self.dims)
        fitting = [self.keyphrases.fitting(item.category) for item in asked]
        for at in np.flatnonzero(~vectors.any(axis=1)).tolist():
            yield at, Recommended((), ())
        # Items of one depth are searched together. The depth of one does not depend on the others, so neither
        # do the answers of a graph, which finds more the more it looks for.
        waiting = {at: 2 * item.limit for at, item in enumerate(asked) if vectors[at].any()}
        while waiting := {at: depth for at, depth in waiting.items() if not is_over(at)}:
            first = min(waiting, key=waiting.__getitem__)
            depth, among = waiting[first], fitting[first]
            group = [at for at, own in waiting.items() if own == depth and fitting[at].rows is among.rows]
            rows, scores = self._search(vectors[group], depth, among.rows)
            size = len(self.keyphrases) if among.rows is None else len(among.rows)
            for at, own_rows, own_scores in zip(group, rows, scores, strict=True):
                item = asked[at]
                kept = self._kept(item, fitting[at].mask, own_rows, own_scores)
                exhausted = depth >= size or bool(own_scores[-1] < item.min_score)
                if len(kept) >= item.limit or exhausted:
                    texts = self.keyphrases.texts(own_rows[kept])
                    del waiting[at]
                    yield at, Recommended(texts, np.clip(own_scores[kept], -1, 1).tolist())
                else:
                    waiting[at] = depth * _MORE

    def _search(self, vectors: Vectors, depth: int, among: Found | None) -> tuple[Found, Vectors]:
        """Search all keyphrases, or few of them exactly."""
        if among is None:
            return self.index(vectors, depth)
        rows, scores = exact_top(vectors, self.index.vectors(among), depth)
        return among[rows], scores

    def _kept(self, item: Asked, fits: Mask, rows: Found, scores: Vectors) -> Found:
        """Positions of the candidates that pass every filter, at most as many as are wanted."""
        kept: Found = np.flatnonzero((rows != MISSING) & (scores >= item.min_score))
        kept = kept[fits[rows[kept]]]
        kept = kept[first_of_each(self.keyphrases.forms[rows[kept]])]
        if self.near_identical is not None:
            kept = kept[far_apart(self.index.vectors(rows[kept]), self.near_identical, item.limit)]
        return kept[: item.limit]
