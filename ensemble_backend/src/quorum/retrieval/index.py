# SPDX-License-Identifier: Apache-2.0
"""Open the index of a version: vectors that are searched exactly, or a graph that finds nearly all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from quorum.retrieval.graph_trial import try_graph
from quorum.retrieval.manifest import GRAPH_FILE, VECTORS_FILE, ManifestError, RetrieverManifest, first_line
from quorum.retrieval.vectors import Found, Vectors, cut, exact_top

MISSING = -1
"""In place of a row where a graph has found fewer than were wanted; its score is -inf."""


LOOKED_AT = 384
"""Candidates that a graph looks at, at least; more find more, and take longer."""


class Index(Protocol):
    """Finds the keyphrases whose vectors are nearest to others."""

    def __call__(self, vectors: Vectors, k: int) -> tuple[Found, Vectors]:
        """Search (q, d) vectors of length 1.

        Returns:
            (q, min(k, n)) rows of keyphrases, best first, and their cosines, float32.
        """

    def vectors(self, rows: Found) -> Vectors:
        """(r, d) vectors of these rows, each of length 1."""


def open_index(folder: Path, manifest: RetrieverManifest, *, tried: bool = False) -> Index:
    """Open a version's index; its files stay on disk, mapped into memory.

    Args:
        folder: Of the version; the hashes of its files are not checked (:mod:`quorum.retrieval.manifest`).
        manifest: Its ``retriever.json``.
        tried: Whether a graph need not be opened in a process of its own first, as this one has built it.

    Raises:
        ManifestError: It is damaged, or not of the size that the manifest says, or usearch is not installed.
    """
    path = folder / (VECTORS_FILE if manifest.index == "exact" else GRAPH_FILE)
    opener = Exact if manifest.index == "exact" else Graph
    try:
        if opener is Graph and not tried:
            try_graph(path)
        index = opener(path)
    except ModuleNotFoundError as error:
        raise ManifestError(
            f"{path} needs the package {error.name!r}, which {sys.executable} does not have;"
            f" `pip install {error.name}` there, or make the version with `quorum index --index exact`"
        ) from error
    except Exception as error:
        raise ManifestError(
            f"{path} cannot be read ({first_line(error)}); make the version again with `quorum index`"
        ) from error
    wanted = (manifest.keyphrases, manifest.dims)
    if index.shape != wanted:
        raise ManifestError(
            f"{path} has {index.shape[0]} vectors of {index.shape[1]} dimensions, retriever.json says"
            f" {wanted[0]} of {wanted[1]}; make the version again with `quorum index`"
        )
    return index


class Exact:
    """Vectors in a NumPy file, float32 (n, d), each of length 1."""

    def __init__(self, path: Path) -> None:
        self._vectors: Vectors = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        if self._vectors.dtype != np.float32 or self._vectors.ndim != 2:
            raise ValueError(f"it is {self._vectors.dtype} of {self._vectors.ndim} axes, not float32 of 2")
        self.shape = (self._vectors.shape[0], self._vectors.shape[1])

    def __call__(self, vectors: Vectors, k: int) -> tuple[Found, Vectors]:
        """As :meth:`Index.__call__`."""
        return exact_top(vectors, self._vectors, k)

    def vectors(self, rows: Found) -> Vectors:
        """As :meth:`Index.vectors`."""
        return self._vectors[rows]


class Graph:
    """A usearch graph (HNSW, Malkov and Yashunin 2016, arXiv:1603.09320) whose keys are the rows.

    Its metric is the cosine, or the inner product of vectors that are no whole numbers: the distances are 1
    minus them. Those of int8 vectors approximate the cosine; their inner products would be large numbers.
    """

    def __init__(self, path: Path) -> None:
        from usearch.index import Index as Usearch
        from usearch.index import MetricKind, ScalarKind

        opened: Any = Usearch.restore(str(path), view=True)
        if opened is None:
            raise ValueError("usearch does not know the file")
        metric, dtype = opened.metric_kind, opened.dtype
        if metric != MetricKind.Cos and (metric != MetricKind.IP or dtype == ScalarKind.I8):
            raise ValueError(f"its metric is {metric} of {dtype}, expected is the cosine")
        # The file does not say how far to search.
        opened.expansion_search = LOOKED_AT
        self._graph = opened
        self.shape: tuple[int, int] = (len(opened), int(opened.ndim))

    def __call__(self, vectors: Vectors, k: int) -> tuple[Found, Vectors]:
        """As :meth:`Index.__call__`."""
        k = min(k, self.shape[0])
        rows = np.full((len(vectors), k), MISSING, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        for at, vector in enumerate(vectors):
            found = self._graph.search(vector, k)
            count = len(found)
            rows[at, :count] = found.keys[:count].astype(np.int64)
            scores[at, :count] = 1 - found.distances[:count]
        return rows, scores

    def vectors(self, rows: Found) -> Vectors:
        """As :meth:`Index.vectors`."""
        # For no key usearch gives an array without a second axis.
        stored = np.asarray(self._graph.get(rows.astype(np.uint64)), np.float32)
        return cut(stored.reshape(len(rows), self.shape[1]), self.shape[1])
