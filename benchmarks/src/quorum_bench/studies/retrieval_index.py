# SPDX-License-Identifier: Apache-2.0
"""Measure exact and usearch indexes of keyphrases: build, memory, query and recall, as they grow.

Vectors are those of real keyphrases by a student, drawn again and again, each with normal noise of half the
mean length of a vector: clusters as of spellings and neighbours. Queries are titles of real items. Times are
CPU time of one thread, as other work on a machine hardly changes it; one vector is asked at a time.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from quorum.retrieval.embed import new_vectors
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.graph import RECALL_K, Numbers, build_graph, recall_of
from quorum.retrieval.index import open_index
from quorum.retrieval.manifest import GRAPH_FILE, VECTORS_FILE, RetrieverManifest
from quorum.retrieval.vectors import Vectors, cut

NOISE, QUERIES = 0.5, 300
KINDS = ("exact", "usearch f16", "usearch i8")
HEAD = (
    f"{'keyphrases':>10} {'dims':>4} {'index':11} {'build s':>8} {'x10':>5} {'build MB':>8} {'file MB':>8}"
    f" {'held MB':>8} {'query ms':>8} {'x10':>5} {'recall@50':>9}"
)
Row = dict[str, Any]
_AT_ONCE = 1 << 16


def rows(
    data: Path, encoder: Path, sizes: Sequence[int], dims: Sequence[int], kinds: Sequence[str] = KINDS
) -> Iterator[Row]:
    """Yield a row per kind, dimensions and size; each index is built, and asked, in a process of its own.

    Args:
        data: Folder ``keyphrases`` of the public data.
        encoder: Folder of a student.
        sizes: Keyphrases, ascending.
        dims: Of the vectors.
        kinds: Of :data:`KINDS`.

    Raises:
        ManifestError: The encoder cannot be opened.
        OSError: Data are missing.
    """
    real, queries = _real(data, encoder)
    before: dict[tuple[str, int], Row] = {}
    for size in sizes:
        for cut_to in dims:
            with tempfile.TemporaryDirectory(prefix="quorum-index-") as name:
                folder = Path(name)
                _write_vectors(real, size, cut_to, folder / "all.npy")
                np.save(folder / "queries.npy", cut(queries, cut_to))
                for kind in kinds:
                    row = {"keyphrases": size, "dims": cut_to, "index": kind}
                    row |= _alone(_build, folder, kind) | _alone(_ask, folder, kind, size, cut_to)
                    smaller = before.get((kind, cut_to))
                    if smaller and size == 10 * smaller["keyphrases"]:
                        row["build_x10"] = row["build_s"] / max(smaller["build_s"], 1e-9)
                        row["query_x10"] = row["query_ms"] / smaller["query_ms"]
                    before[kind, cut_to] = row
                    yield row


def line(row: Row) -> str:
    """One line of the table of :func:`rows`; x10: over that of a tenth of the keyphrases, linear is 10."""
    build, query = (f"{row[name]:5.1f}" if name in row else "    -" for name in ("build_x10", "query_x10"))
    return (
        f"{row['keyphrases']:10,} {row['dims']:4} {row['index']:11} {row['build_s']:8.1f} {build}"
        f" {row['build_mb']:8.0f} {row['file_mb']:8.1f} {row['held_mb']:8.1f} {row['query_ms']:8.3f} {query}"
        f" {row['recall']:9.4f}"
    )


def _real(data: Path, encoder: Path) -> tuple[Vectors, Vectors]:
    """Vectors of the keyphrases, and of items' titles."""
    opened = TextEncoder(encoder)
    titles = [row["title"] for row in _lines(data / "items.jsonl.gz")]
    chosen = np.random.default_rng(0).choice(len(titles), QUERIES, replace=False)
    keyphrases = [row["keyphrase"] for row in _lines(data / "keyphrases.jsonl.gz")]
    return opened.keyphrases(keyphrases), opened.items([titles[at] for at in chosen])


def _lines(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _write_vectors(real: Vectors, size: int, dims: int, path: Path) -> None:
    rng = np.random.default_rng(0)
    spread = NOISE * float(np.linalg.norm(real, axis=1).mean()) / np.sqrt(real.shape[1])
    whole = new_vectors(path, size, dims)
    for start in range(0, size, _AT_ONCE):
        drawn = real[rng.integers(len(real), size=min(_AT_ONCE, size - start))]
        noise = rng.standard_normal(drawn.shape, np.float32) * np.float32(spread)
        whole[start : start + len(drawn)] = cut(drawn + noise, dims)
    whole.flush()


def _alone(work: Callable[..., Row], *arguments: Any) -> Row:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def _build(folder: Path, kind: str) -> Row:
    vectors: Vectors = np.asarray(np.load(folder / "all.npy", mmap_mode="r"))
    before, began = _memory_mb("RssAnon"), time.process_time()
    # Not that of mapped files, which the system takes back when it needs it.
    held = [before]
    if kind == "exact":
        np.save(folder / VECTORS_FILE, vectors)
    else:
        numbers: Numbers = "i8" if kind.endswith("i8") else "f16"
        build_graph(
            vectors, folder / GRAPH_FILE, numbers, lambda _done, _all: held.append(_memory_mb("RssAnon"))
        )
    return {"build_s": time.process_time() - began, "build_mb": max(held) - before}


def _ask(folder: Path, kind: str, size: int, dims: int) -> Row:
    manifest = RetrieverManifest(
        student="", dims=dims, index="exact" if kind == "exact" else "usearch", keyphrases=size
    )
    queries: Vectors = np.load(folder / "queries.npy")
    before = _memory_mb("VmRSS")
    index = open_index(folder, manifest)
    index(queries[:50], RECALL_K)
    times = []
    for query in queries:
        began = time.process_time_ns()
        index(query[None], RECALL_K)
        times.append(time.process_time_ns() - began)
    held = _memory_mb("VmRSS") - before
    vectors: Vectors = np.asarray(np.load(folder / "all.npy", mmap_mode="r"))
    path = folder / (VECTORS_FILE if kind == "exact" else GRAPH_FILE)
    return {
        "file_mb": path.stat().st_size / 2**20,
        "held_mb": held,
        "query_ms": float(np.median(times)) / 1e6,
        "recall": recall_of(index, queries, vectors),
    }


def _memory_mb(name: str) -> float:
    text = Path("/proc/self/status").read_text("utf-8")
    return next(int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith(f"{name}:"))
