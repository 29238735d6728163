# SPDX-License-Identifier: Apache-2.0
"""Turn texts into sentence vectors by a student's ``encoder.onnx``: tokenise, batch by length, compute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from quorum.retrieval.manifest import (
    ENCODER_FILE,
    ITEM_VECTOR,
    KEYPHRASE_VECTOR,
    TOKENIZER_FILE,
    ManifestError,
    read_student,
)
from quorum.retrieval.vectors import Vectors
from quorum.runtimes.encoder_input import IDS, MASK
from quorum.runtimes.onnx_network import Engine, Network, Precision, open_onnx
from quorum_contract.fields import one_line

MAX_BATCH = 32
_PART = 512
# A tokenizer may give a text of control characters no token, and on a GPU networks are compiled from 2 on.
_SHORTEST = 2
_PADDING = 16
"""Tokens of padding in a batch on a CPU, where they cost as much as text, and a call as much as about ten."""


class TextEncoder:
    """A student's encoder, open; not to be used from two threads at once.

    Attributes:
        dims: Dimensions of its vectors.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine = "openvino",
        precision: Precision = "auto",
        threads: int = 1,
        *,
        max_batch: int = MAX_BATCH,
        network: Network | None = None,
    ) -> None:
        """Open the encoder of a folder; its hashes are not checked (:mod:`quorum.retrieval.manifest`).

        Args:
            folder: Of a student, or of a version.
            engine: What computes.
            precision: See :data:`quorum.runtimes.onnx_network.Precision`.
            threads: CPU threads; 0: one per core.
            max_batch: Texts that are computed at once.
            network: Computes in place of the engine.

        Raises:
            ManifestError: A file is missing or damaged, or the engine is not installed.
        """
        student = read_student(folder)
        self.dims, self._max_batch = student.dims[0], max_batch
        # Another network is on a GPU, which computes one large batch faster than several small ones.
        self._padding = None if network else _PADDING
        try:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            self._network = network or open_onnx(folder / ENCODER_FILE, engine, precision, threads)
        except ModuleNotFoundError as error:
            raise ManifestError(
                f"the encoder needs the package {error.name!r}, which {sys.executable} does not have;"
                f" `pip install {error.name}` there"
            ) from error
        except Exception as error:
            raise ManifestError(
                f"{folder} holds no encoder that can be read ({error}); make it again with `quorum distill`"
            ) from error
        # What the file stores would pad every text to a fixed length.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(student.max_tokens)
        expected = {ITEM_VECTOR, KEYPHRASE_VECTOR}
        if {*self._network.inputs} != {IDS, MASK} or {*self._network.outputs} != expected:
            raise ManifestError(
                f"{folder / ENCODER_FILE} has inputs {sorted(self._network.inputs)} and outputs"
                f" {sorted(self._network.outputs)}, expected {[IDS, MASK]} and {sorted(expected)};"
                " make it again with `quorum distill`"
            )

    def items(self, texts: Sequence[str]) -> Vectors:
        """(n, dims) float32 vectors of items' texts, not normalised."""
        return self._vectors(texts, ITEM_VECTOR)

    def keyphrases(self, texts: Sequence[str]) -> Vectors:
        """(n, dims) float32 vectors of keyphrases, not normalised."""
        return self._vectors(texts, KEYPHRASE_VECTOR)

    def _vectors(self, texts: Sequence[str], output: str) -> Vectors:
        encoded = [
            np.array(e.ids, np.int64) for e in self._tokenizer.encode_batch([one_line(t) for t in texts])
        ]
        found = np.empty((len(texts), self.dims), np.float32)
        for rows in self._batches([len(one) for one in encoded]):
            longest = max(_SHORTEST, *(len(encoded[row]) for row in rows))
            ids = np.zeros((len(rows), longest), np.int64)
            mask = np.zeros_like(ids)
            for at, row in enumerate(rows):
                ids[at, : len(encoded[row])] = encoded[row]
                mask[at, : len(encoded[row])] = 1
            found[rows] = self._network.compute(ids, mask, output)
        return found

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows of about one length, so that little of a batch is padding."""
        batch: list[int] = []
        tokens = 0
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            length = lengths[row]
            padding = len(batch) * length - tokens
            if len(batch) == self._max_batch or (self._padding is not None and padding > self._padding):
                yield batch
                batch, tokens = [], 0
            batch.append(row)
            tokens += length
        if batch:
            yield batch


def encode_in_parts(
    encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], what: str, note: Callable[[str], None]
) -> Vectors:
    """Vectors of many texts, (n, dims), saying how far it is.

    Args:
        encode: A method of :class:`TextEncoder`.
        texts: At least one.
        what: The texts in words.
        note: Takes a line before each part.
    """
    parts = []
    for start in range(0, len(texts), _PART):
        note(f"encoding {what}, {start} of {len(texts)}")
        parts.append(encode(texts[start : start + _PART]))
    return np.concatenate(parts)
