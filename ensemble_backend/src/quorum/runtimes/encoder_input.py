# SPDX-License-Identifier: Apache-2.0
"""Turn a text into an encoder's tokens, and its logits into an answer; the same for tuning and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from quorum.runtimes.encoder_folder import EncoderFile
from quorum.runtimes.heads import CODECS, Answer, Encoded, Ids, Logits

IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"
"""Tensors of ``model.onnx``: two int64 of (rows, length), and the float32 output."""
_PADDING = ("[PAD]", "<pad>")


class EncoderInput:
    """Encodes texts for one encoder, and decodes its logits."""

    def __init__(self, tokenizer: Any, described: EncoderFile) -> None:
        """``tokenizer`` is a ``tokenizers.Tokenizer`` of its own, whose truncation is set here."""
        tokenizer.no_padding()
        tokenizer.enable_truncation(described.max_tokens, strategy="longest_first")
        self._tokenizer = tokenizer
        found = (tokenizer.token_to_id(name) for name in _PADDING)
        self.padding: int = next((token for token in found if token is not None), 0)
        self._codec = CODECS[described.head](tokenizer, described)

    def encode(self, text: str, category: str = "", attribute: str = "") -> Encoded:
        """Encode one question.

        Args:
            text: TEXT of the product.
            category: Counts for the head ``value`` with a category.
            attribute: Counts for the head ``value``, and for ``label`` by the default question.
        """
        return self._codec.encode(text, category, attribute)

    def pad(self, rows: Sequence[Encoded]) -> tuple[Ids, Ids]:
        """Token ids and attention mask of a batch, both (rows, longest), int64."""
        longest = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), longest), self.padding, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = row.ids
            mask[place, : len(row.ids)] = 1
        return ids, mask

    def decode(self, row: Encoded, logits: Logits) -> Answer:
        """Decode the logits of one input: (labels,), (at least t, tags), or (at least t, 2)."""
        return self._codec.decode(row, np.asarray(logits, np.float64))
