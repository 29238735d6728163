# SPDX-License-Identifier: Apache-2.0
"""What a head of an encoder must do: turn texts into tokens, and logits into an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating[Any]]
HeadKind = Literal["label", "spans", "value"]


class Head(Protocol):
    """What ``encoder.json`` says of an encoder; see :class:`quorum.runtimes.encoder_folder.EncoderFile`."""

    @property
    def head(self) -> HeadKind:
        """Kind of its answer."""

    @property
    def labels(self) -> Sequence[str]:
        """Labels, or tags, in the order of the logits; empty for the head ``value``."""

    @property
    def fields(self) -> Sequence[str]:
        """Named fields that TEXT is made of."""

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens included."""

    @property
    def with_category(self) -> bool:
        """Whether the category is part of the question."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One input of an encoder.

    Attributes:
        ids: (t,) token ids, special tokens included.
        text: The text in one line, which ``places`` lie in.
        places: Head ``spans``: (w, 3) per word: its first token, -1 where the input was cut before, and its
            first and last character (exclusive). Head ``value``: the same per token of the text. Head
            ``label``: empty.
    """

    ids: Ids
    text: str
    places: Ids


class Answer(NamedTuple):
    """An answer and its natural log-probability.

    ``value`` is spelled as VALUES has it, but for the head ``value``: there it is as the text spells it, for
    :meth:`quorum.tasks.attribute.Attribute.normalise`, or "n/a".
    """

    value: str
    score: float


class Codec(Protocol):
    """Encodes texts for one encoder, and decodes its logits."""

    def __init__(self, tokenizer: Any, head: Head) -> None:
        """``tokenizer`` is a ``tokenizers.Tokenizer`` that truncates."""

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """Encode one question; category and attribute count for the head ``value``."""

    def decode(self, row: Encoded, logits: Logits) -> Answer:
        """Decode the logits of one input, float64: (labels,), (at least t, tags), or (at least t, 2)."""


def log_softmax(scores: Logits) -> Logits:
    """Logarithm of the softmax over the last dimension, in float64."""
    shifted = np.asarray(scores, np.float64) - np.max(scores, axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
