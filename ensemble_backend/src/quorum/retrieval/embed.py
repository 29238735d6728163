# SPDX-License-Identifier: Apache-2.0
"""Embed many keyphrases in parts that outlive the process: a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.files import replacing
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.vectors import Vectors, cut

PART = 2048
"""Keyphrases of a part: what a kill can cost."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """How far it is.

    Attributes:
        done: Keyphrases that have vectors.
        total: All.
        rate: Keyphrases embedded a second by this process; 0 until the first part is done.
        eta: Seconds left at that rate.
    """

    done: int
    total: int
    rate: float
    eta: float


Progress = Callable[[Embedding], None]


def embed(
    texts: Any,
    encoder: TextEncoder,
    made_by: str,
    dims: int,
    parts: Path,
    target: Path,
    progress: Progress | None = None,
) -> None:
    """Write vectors of keyphrases into a NumPy file: float32 (n, dims), each of length 1.

    Args:
        texts: (n,) Arrow array.
        encoder: Of a student.
        made_by: Hash of the encoder, and what else decides its vectors.
        dims: What vectors are cut to.
        parts: Folder of embedded parts; each is named by the hash of its content's sources, so that one of
            another encoder, or of other keyphrases, is not taken.
        target: The file.
        progress: Called after each part.
    """
    total, begun, embedded = len(texts), time.monotonic(), 0
    whole = new_vectors(target, total, dims)
    for start in range(0, total, PART):
        some = texts.slice(start, PART).to_pylist()
        path = parts / f"{_name(made_by, dims, some)}.npy"
        vectors = _part(path, len(some), dims)
        if vectors is None:
            vectors = cut(encoder.keyphrases(some), dims)
            embedded += len(some)
            _write(path, vectors)
        done = start + len(some)
        whole[start:done] = vectors
        if progress:
            rate = embedded / (time.monotonic() - begun)
            progress(Embedding(done, total, rate, (total - done) / rate if rate else 0.0))
    whole.flush()


def new_vectors(path: Path, rows: int, dims: int) -> np.memmap[Any, np.dtype[np.float32]]:
    """Make a NumPy file of (rows, dims) vectors, mapped into memory to be filled in."""
    made: np.memmap[Any, np.dtype[np.float32]] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, "w+", np.float32, (rows, dims)
    )
    return made


def _name(made_by: str, dims: int, texts: Iterable[str]) -> str:
    content = "\n".join([made_by, str(dims), *texts])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _part(path: Path, rows: int, dims: int) -> Vectors | None:
    """An embedded part; None: there is none, or it is damaged."""
    with suppress(OSError, ValueError, EOFError):
        found = np.load(path, allow_pickle=False)
        if found.shape == (rows, dims) and found.dtype == np.float32 and np.isfinite(found).all():
            vectors: Vectors = found
            return vectors
    return None


def _write(path: Path, vectors: Vectors) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)


def blocks(vectors: Vectors, rows: int = 1 << 14) -> Iterator[tuple[int, Vectors]]:
    """First row and vectors of parts of (n, d) vectors, each in memory: of a file, one part at a time."""
    for start in range(0, len(vectors), rows):
        yield start, np.array(vectors[start : start + rows], np.float32)
