# SPDX-License-Identifier: Apache-2.0
"""What a head of an encoder must do: turn texts into tokens, and logits into an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from quorum.runtimes.encoder_folder import EncoderFile

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating[Any]]
HeadKind = Literal["label", "spans", "value"]


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
    """Encodes texts for one encoder, and decodes its logits.

    Attributes:
        dims: Dimensions of the logits of a batch: 2 are (rows, outputs), 3 (rows, length, outputs).
        asks: Whether the attribute, and perhaps the category, is part of the input, so that one encoder
            answers any number of attributes; else exactly one.
    """

    dims: ClassVar[int]
    asks: ClassVar[bool]

    def __init__(self, tokenizer: Any, described: EncoderFile) -> None:
        """``tokenizer`` is a ``tokenizers.Tokenizer`` that truncates."""

    @staticmethod
    def outputs(labels: Sequence[str]) -> int:
        """Size of the last dimension of the logits."""

    @staticmethod
    def problem(labels: Sequence[str]) -> str:
        """Why the labels cannot be those of the logits; empty where they can."""

    @staticmethod
    def values(labels: Sequence[str]) -> set[str]:
        """The values, labels or types of the attribute that the labels name."""

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """Encode one question; category and attribute count for the head ``value``."""

    def decode(self, row: Encoded, logits: Logits) -> Answer:
        """Decode the logits of one input, float64: (labels,), (at least t, tags), or (at least t, 2)."""


def problem_of_labels(labels: Sequence[str]) -> str:
    """Why these are no labels of logits; empty where they are."""
    if not labels:
        return "it has no labels"
    return "two labels are equal" if len({*labels}) < len(labels) else ""


def log_softmax(scores: Logits) -> Logits:
    """Logarithm of the softmax over the last dimension, in float64."""
    shifted = np.asarray(scores, np.float64) - np.max(scores, axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
