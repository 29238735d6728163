# SPDX-License-Identifier: Apache-2.0
"""The head ``spans``: a tag for each word of a text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from quorum.decision.spans import MAX_SPANS, TextSpan, dump_spans
from quorum.runtimes.heads.base import Answer, Encoded, Logits, log_softmax, problem_of_labels
from quorum_contract.fields import one_line

if TYPE_CHECKING:
    from quorum.runtimes.encoder_folder import EncoderFile

_WORD = re.compile(r"\S+")
_MARKS = ',;:.!?()[]{}"“”„…'
OUTSIDE_TAG = "O"
"""Tag of a word in no span; the others are ``B-type``, which begins a span, and ``I-type``."""


class SpansCodec:
    """Logits of a word's first token are of the tags."""

    dims: ClassVar = 3
    asks: ClassVar = False

    def __init__(self, tokenizer: Any, described: EncoderFile) -> None:
        self._tokenizer = tokenizer
        self._tags = [_tag(label) for label in described.labels]

    @staticmethod
    def outputs(labels: Sequence[str]) -> int:
        """One for each tag."""
        return len(labels)

    @staticmethod
    def problem(labels: Sequence[str]) -> str:
        """There must be some, each once, and tags."""
        wrong = [label for label in labels if label != OUTSIDE_TAG and label[:2] not in ("B-", "I-")]
        if wrong:
            return f"tag {wrong[0]!r} is none of {OUTSIDE_TAG}, B-type, I-type"
        return problem_of_labels(labels)

    @staticmethod
    def values(labels: Sequence[str]) -> set[str]:
        """The types of spans."""
        return {label[2:] for label in labels if label != OUTSIDE_TAG}

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """The words of the text, each with its first token."""
        text = one_line(text)
        words = words_of(text)
        encoding = self._tokenizer.encode([text[start:end] for start, end in words], is_pretokenized=True)
        places = np.array([[-1, start, end] for start, end in words], np.int64).reshape(-1, 3)
        for token, word in reversed(list(enumerate(encoding.word_ids))):
            if word is not None:
                places[word, 0] = token
        return Encoded(np.array(encoding.ids, np.int64), text, places)

    def decode(self, row: Encoded, logits: Logits) -> Answer:
        """The spans of the most probable tag of each word."""
        spans: list[TextSpan] = []
        score, is_open = 0.0, False
        for token, start, end in row.places.tolist():
            if token < 0:
                is_open = False
                continue
            scores = log_softmax(logits[token])
            best = int(scores.argmax())
            score += float(scores[best])
            begins, kind = self._tags[best]
            if not kind:
                is_open = False
            elif is_open and not begins and spans[-1].type == kind:
                spans[-1] = TextSpan(spans[-1].start, end, kind)
            else:
                spans.append(TextSpan(start, end, kind))
                is_open = True
        return Answer(dump_spans(row.text, spans[:MAX_SPANS]), score)


def words_of(text: str) -> list[tuple[int, int]]:
    """Words of a text, as first and last character (exclusive); punctuation around one is apart."""
    words: list[tuple[int, int]] = []
    for found in _WORD.finditer(text):
        core = found[0].strip(_MARKS)
        start = found.start() + (found[0].index(core) if core else 0)
        end = start + len(core) if core else found.end()
        bounds = sorted({found.start(), start, end, found.end()})
        words += itertools.pairwise(bounds)
    return words


def tags_of(types: Sequence[str]) -> tuple[str, ...]:
    """The labels of an encoder for spans of these types."""
    return (OUTSIDE_TAG, *(f"{mark}-{kind}" for kind in types for mark in "BI"))


def _tag(label: str) -> tuple[bool, str]:
    """Whether a tag begins a span, and its type; "" for the tag outside of spans."""
    return (False, "") if label == OUTSIDE_TAG else (label[0] == "B", label[2:])
