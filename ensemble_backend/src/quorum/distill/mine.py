# SPDX-License-Identifier: Apache-2.0
"""Mine pairs without a judgement: near keyphrases for the cross-encoder to label, random ones as irrelevant.

Judged pairs cover few keyphrases, and a search engine found all of them; without others a student forgets
what is far apart (recall falls), and a cross-encoder overrates it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quorum.retrieval.vectors import Vectors, exact_top

Pairs = npt.NDArray[np.int64]
NEGATIVES = 1.0
"""Random pairs for each judged pair that a student learns: with fewer, recall of unseen queries is lower."""
ASSISTANT_NEGATIVES = 1 / 3
"""The same for the cross-encoder, where each pair costs training time."""
NEAREST, MIDDLE = 10, 100
"""Ranks by the base's own vectors: two pairs are drawn of the nearest, one of those up to the middle."""


def mine(items: Vectors, keyphrases: Vectors, known: set[tuple[int, int]], pool: int, seed: int) -> Pairs:
    """Draw keyphrases for items: two of the nearest 10, one of the nearest 100.

    Args:
        items: (I, d) vectors, of length 1.
        keyphrases: (K, d), of length 1.
        known: Pairs of item and keyphrase that are judged; they are not drawn.
        pool: Items, drawn at random, at most.
        seed: Of the draws.

    Returns:
        (n, 2) item and keyphrase, none twice.
    """
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, int], None] = {}
    if not len(keyphrases):
        return np.empty((0, 2), np.int64)
    drawn_items = rng.permutation(len(items))[:pool]
    nearest, _ = exact_top(items[drawn_items], keyphrases, MIDDLE)
    for item, ranked in zip(drawn_items.tolist(), nearest, strict=True):
        near = rng.choice(ranked[:NEAREST], min(2, len(ranked)), replace=False)
        drawn = [*near, rng.choice(ranked)]
        found.update(((item, int(k)), None) for k in drawn if (item, int(k)) not in known)
    return np.array(list(found), np.int64).reshape(-1, 2)


def random_pairs(items: int, keyphrases: int, known: set[tuple[int, int]], count: int, seed: int) -> Pairs:
    """Draw pairs at random, which are taken as irrelevant: of many keyphrases few suit an item.

    Args:
        items: How many there are.
        keyphrases: How many there are.
        known: Pairs that are judged; they are not drawn.
        count: Wanted.
        seed: Of the draw.

    Returns:
        (n, 2) item and keyphrase, none twice; fewer than wanted where judged or equal ones were drawn.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = zip(
        rng.integers(items, size=count).tolist(), rng.integers(keyphrases, size=count).tolist(), strict=True
    )
    found = dict.fromkeys(pair for pair in drawn if pair not in known)
    return np.array(list(found), np.int64).reshape(-1, 2)
