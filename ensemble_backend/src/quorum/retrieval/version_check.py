# SPDX-License-Identifier: Apache-2.0
"""Check that a version's vectors are those of its keyphrases by its encoder, before it is published.

Hashes say that files are the ones that were written together. They cannot say that what wrote them was right:
with another tokenizer, or vectors that are no numbers, answers would be wrong without an error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.index import Index, open_index
from quorum.retrieval.keyphrases import Keyphrases
from quorum.retrieval.manifest import ManifestError, RetrieverManifest
from quorum.retrieval.vectors import cut

SAMPLE = 32
LEAST_COSINE = 0.9
"""Of a stored vector and the same made anew; int8 and other CPUs differ by far less."""
_LENGTH_ERROR = 0.01
_ROWS_AT_ONCE = 1 << 16
_AGAIN = "make the version again with `quorum index`"


def check_vectors(folder: Path, manifest: RetrieverManifest) -> None:
    """Make vectors of some keyphrases anew, and compare; of an exact index look at the length of all.

    Raises:
        ManifestError: They differ, or cannot be made here.
    """
    index, keyphrases = open_index(folder, manifest), Keyphrases(folder)
    if len(keyphrases) != manifest.keyphrases:
        raise ManifestError(
            f"{folder} has {len(keyphrases)} keyphrases for {manifest.keyphrases} vectors; {_AGAIN}"
        )
    if manifest.index == "exact":
        _check_lengths(folder, index, manifest.keyphrases)
    rows = np.unique(np.linspace(0, manifest.keyphrases - 1, SAMPLE).astype(np.int64))
    texts = keyphrases.texts(rows)
    made = cut(TextEncoder(folder).keyphrases(texts), manifest.dims)
    stored = index.vectors(rows)
    for text, likeness, is_empty in zip(texts, (made * stored).sum(axis=1), ~made.any(axis=1), strict=True):
        # Of a text without a known word both are 0.
        if not (likeness >= LEAST_COSINE or is_empty):
            raise ManifestError(
                f"{folder}: the vector of {text!r:.80} is not the one that its encoder and tokenizer make"
                f" (cosine {likeness:.2f}); {_AGAIN}"
            )


def _check_lengths(folder: Path, index: Index, count: int) -> None:
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(start, min(count, start + _ROWS_AT_ONCE), dtype=np.int64)
        lengths = np.linalg.norm(index.vectors(rows), axis=1)
        wrong = rows[~((np.abs(lengths - 1) <= _LENGTH_ERROR) | (lengths == 0))]
        if len(wrong):
            raise ManifestError(f"{folder}: vector {wrong[0] + 1} of {count} is not of length 1; {_AGAIN}")
