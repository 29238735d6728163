# SPDX-License-Identifier: Apache-2.0
"""Build a usearch graph of vectors, and measure how much of the exact search it finds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quorum.retrieval.embed import blocks
from quorum.retrieval.index import Index
from quorum.retrieval.manifest import ManifestError
from quorum.retrieval.vectors import Vectors, exact_top

LARGEST_EXACT = 200_000
"""Keyphrases up to which an index is exact by default: half of them take 3 ms of CPU at 64 dimensions."""
RECALL_K = 50
Numbers = Literal["f16", "i8"]
_NEIGHBOURS, _LOOKED_AT_ADDING = 16, 128


def build_graph(
    vectors: Vectors,
    target: Path,
    numbers: Numbers = "f16",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a graph whose keys are the rows (HNSW, see :class:`quorum.retrieval.index.Graph`).

    One thread adds the vectors in order, so that equal vectors give equal files.

    Args:
        vectors: (n, d), each of length 1.
        target: The file.
        numbers: What a vector is stored as: half precision, or 8 bits, whose rounding costs some recall.
        progress: Called with rows done and all.

    Raises:
        ManifestError: usearch is not installed.
    """
    try:
        from usearch.index import Index as Usearch
    except ModuleNotFoundError as error:
        raise ManifestError(
            f"a usearch index needs the package {error.name!r}, which {sys.executable} does not have;"
            f" `pip install {error.name}` there, or take --index exact"
        ) from error
    graph: Any = Usearch(
        ndim=vectors.shape[1],
        # Of 8-bit numbers the inner product has another scale.
        metric="ip" if numbers == "f16" else "cos",
        dtype=numbers,
        connectivity=_NEIGHBOURS,
        expansion_add=_LOOKED_AT_ADDING,
    )
    for start, block in blocks(vectors):
        graph.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=1)
        if progress:
            progress(start + len(block), len(vectors))
    graph.save(str(target))


def recall_of(index: Index, queries: Vectors, vectors: Vectors, k: int = RECALL_K) -> float:
    """Share of the exact ``k`` nearest of (q, d) queries among (n, d) vectors that an index finds.

    A row whose inner product is the ``k``-th best too counts, as with equal vectors.
    """
    k = min(k, len(vectors))
    _, best = exact_top(queries, vectors, k)
    found, _ = index(queries, k)
    hits = 0
    for query, rows, worst in zip(queries, found, best[:, -1], strict=True):
        rows = rows[rows >= 0]
        # Products of a row do not have the last bit of those of a matrix.
        hits += int((vectors[rows] @ query >= worst - 1e-6).sum())
    return hits / (len(queries) * k)
