# SPDX-License-Identifier: Apache-2.0
"""BM25, what retrievers are measured against (Robertson & Zaragoza 2009; the idf is Lucene's, above 0)."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")

Scores = npt.NDArray[np.float32]


def words(text: str) -> list[str]:
    """Words of a text, case folded."""
    return _WORD.findall(text.casefold())


class Bm25:
    """Documents that are searched by words; a word's postings are the documents that have it."""

    def __init__(self, documents: Sequence[str], k1: float = K1, b: float = B) -> None:
        """Count the words of n documents.

        Args:
            documents: (n,) texts.
            k1: How soon more of a word adds nothing.
            b: How much the length of a document counts, in [0, 1].
        """
        counts = [Counter(words(text)) for text in documents]
        lengths = np.array([found.total() for found in counts], np.float64)
        spread = k1 * (1 - b + b * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-9))
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row, found in enumerate(counts):
            for word, count in found.items():
                postings[word].append((row, count))
        self._size = len(documents)
        self._postings: dict[str, tuple[npt.NDArray[np.int64], Scores]] = {}
        for word, pairs in postings.items():
            rows, often = np.array(pairs, np.int64).T
            idf = math.log(1 + (len(documents) - len(rows) + 0.5) / (len(rows) + 0.5))
            weights = idf * often * (k1 + 1) / (often + spread[rows])
            self._postings[word] = rows, weights.astype(np.float32)

    def scores(self, query: str) -> Scores:
        """(n,) score of each document; a word that the query has twice counts twice."""
        found = np.zeros(self._size, np.float32)
        for word in words(query):
            if posting := self._postings.get(word):
                found[posting[0]] += posting[1]
        return found

    def top(self, query: str, k: int) -> npt.NDArray[np.int64]:
        """(k,) documents, best first, ties by row; -1 where no more have a word of the query."""
        return best_of(self.scores(query), k)


def best_of(scores: Scores, k: int) -> npt.NDArray[np.int64]:
    """(k,) rows of the largest of (n,) scores above 0, best first, ties by row; -1 where no more are."""
    found = np.flatnonzero(scores)
    best = found[np.lexsort((found, -scores[found]))][:k]
    rows = np.full(k, -1, np.int64)
    rows[: len(best)] = best
    return rows
