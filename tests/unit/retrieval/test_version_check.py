# SPDX-License-Identifier: Apache-2.0
"""A version whose vectors are not those of its keyphrases is no version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.retrievers import WORDS, Encoder, write_version

from quorum.retrieval.manifest import VECTORS_FILE, ManifestError, read_retriever
from quorum.retrieval.version_check import check_vectors

pytest.importorskip("onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_version(tmp_path / "version", dict.fromkeys(WORDS, ()), Encoder())


def test_a_version_as_it_was_made_passes(folder: Path) -> None:
    check_vectors(folder, read_retriever(folder))


@pytest.mark.parametrize(
    ("row", "factor", "message"),
    [
        (1, np.nan, r"vector 2 of \d+ is not of length 1"),
        (0, 1e6, r"vector 1 of \d+ is not of length 1"),
        (0, -1.0, r"not the one that its encoder and tokenizer make \(cosine -1.00\).*quorum index"),
        (0, 0.0, r"not the one that its encoder and tokenizer make \(cosine 0.00\)"),
    ],
)
def test_a_vector_that_is_another_is_named(folder: Path, row: int, factor: float, message: str) -> None:
    vectors = np.load(folder / VECTORS_FILE)
    vectors[row] *= np.float32(factor)
    np.save(folder / VECTORS_FILE, vectors)
    with pytest.raises(ManifestError, match=message):
        check_vectors(folder, read_retriever(folder))


def test_vectors_of_another_encoder_are_refused(folder: Path) -> None:
    other = Encoder(3)
    np.save(folder / VECTORS_FILE, other.keyphrases([*WORDS], read_retriever(folder).dims))
    with pytest.raises(ManifestError, match="not the one that its encoder"):
        check_vectors(folder, read_retriever(folder))
