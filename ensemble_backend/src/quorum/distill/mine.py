# SPDX-License-Identifier: Apache-2.0
"""Mine pairs that nobody judged, for the cross-encoder to label: near, middling and random keyphrases.

The judged pairs cover few keyphrases; without pairs of others a student forgets them (recall falls).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quorum.retrieval.vectors import Vectors

Pairs = npt.NDArray[np.int64]
NEAREST, MIDDLE = 10, 100
"""Ranks by the base's own vectors: two pairs are drawn of the nearest, one of those up to the middle."""


def mine(items: Vectors, keyphrases: Vectors, known: set[tuple[int, int]], pool: int, seed: int) -> Pairs:
    """Draw keyphrases for items: two of the nearest 10, one of the nearest 100, one of all.

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
    middle = min(MIDDLE, len(keyphrases))
    for item in rng.permutation(len(items))[:pool].tolist():
        closeness = keyphrases @ items[item]
        ranked = np.argpartition(-closeness, middle - 1)[:middle]
        ranked = ranked[np.argsort(-closeness[ranked], kind="stable")]
        near = rng.choice(ranked[:NEAREST], min(2, len(ranked)), replace=False)
        drawn = [*near, rng.choice(ranked), rng.integers(len(keyphrases))]
        found.update(((item, int(k)), None) for k in drawn if (item, int(k)) not in known)
    return np.array(list(found), np.int64).reshape(-1, 2)
