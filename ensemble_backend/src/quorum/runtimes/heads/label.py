# SPDX-License-Identifier: Apache-2.0
"""The head ``label``: one of a list for a text, a pair of texts, or a text and an attribute's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from quorum.runtimes.heads.base import Answer, Encoded, Logits, log_softmax, problem_of_labels
from quorum_contract.fields import one_line, split_fields

if TYPE_CHECKING:
    from quorum.runtimes.encoder_folder import EncoderFile


class LabelCodec:
    """Logits of the first token are of the labels."""

    dims: ClassVar = 2
    asks: ClassVar = False

    def __init__(self, tokenizer: Any, described: EncoderFile) -> None:
        self._tokenizer, self._described = tokenizer, described

    @staticmethod
    def outputs(labels: Sequence[str]) -> int:
        """One for each label."""
        return len(labels)

    @staticmethod
    def problem(labels: Sequence[str]) -> str:
        """There must be some, each once."""
        return problem_of_labels(labels)

    @staticmethod
    def values(labels: Sequence[str]) -> set[str]:
        """The labels themselves."""
        return {*labels}

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """The text, its first field and the others, or text and keyphrase, as one or two sequences."""
        first, second = pair_of(self._described.fields, text)
        if self._described.is_outside:
            second = one_line(attribute)
        encoding = (
            self._tokenizer.encode(first, second) if second is not None else self._tokenizer.encode(first)
        )
        return Encoded(np.array(encoding.ids, np.int64), one_line(text), np.empty((0, 3), np.int64))

    def decode(self, row: Encoded, logits: Logits) -> Answer:
        """The most probable label."""
        scores = log_softmax(logits)
        best = int(scores.argmax())
        return Answer(self._described.labels[best], float(scores[best]))


def pair_of(fields: Sequence[str], text: str) -> tuple[str, str | None]:
    """The one or two sequences of the head ``label``: the first field, and the others joined by spaces."""
    found = split_fields(text) if len(fields) > 1 else {}
    if not found or not found.keys() <= set(fields):
        return one_line(text), None
    first, *others = fields
    return found.get(first, ""), " ".join(found[name] for name in others if name in found)
