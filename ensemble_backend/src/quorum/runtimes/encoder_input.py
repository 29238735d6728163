# SPDX-License-Identifier: Apache-2.0
"""Turn a text into an encoder's tokens, and its logits into an answer; the same for tuning and serving."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.spans import MAX_SPANS, TextSpan, dump_spans
from quorum.runtimes.encoder_folder import OUTSIDE_TAG, EncoderFile
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line, split_fields

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating[Any]]
IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"
"""Tensors of ``model.onnx``: two int64 of (rows, length), and the float32 output."""
_PADDING = ("[PAD]", "<pad>")
_PIECE = re.compile(r"\S+")
_PLURAL = re.compile(r"(?<=[^\W\d_]{3})(?<![sS])[sS](?!\w)")
"""The ending of a plural: the value is often the singular of a word of the text ("Jersey" in "Jerseys")."""


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


class EncoderInput:
    """Encodes texts for one encoder, and decodes its logits."""

    def __init__(self, tokenizer: Any, head: EncoderFile) -> None:
        """``tokenizer`` is a ``tokenizers.Tokenizer`` of its own, whose truncation is set here."""
        tokenizer.no_padding()
        tokenizer.enable_truncation(head.max_tokens, strategy="longest_first")
        self._tokenizer, self._head = tokenizer, head
        found = (tokenizer.token_to_id(name) for name in _PADDING)
        self.padding: int = next((token for token in found if token is not None), 0)
        self._tags = [_tag(label) for label in head.labels] if head.head == "spans" else []
        # A cut ending is the continuation of a word, where the vocabulary tells these apart.
        self._continued = {
            tokenizer.token_to_id(s): tokenizer.token_to_id(f"##{s}")
            for s in "sS"
            if tokenizer.token_to_id(s) is not None and tokenizer.token_to_id(f"##{s}") is not None
        }

    def encode(self, text: str, category: str = "", attribute: str = "") -> Encoded:
        """Encode one question.

        Args:
            text: TEXT of the product.
            category: Counts for the head ``value`` with a category.
            attribute: Counts for the head ``value``.
        """
        if self._head.head == "label":
            return self._encode_label(text)
        text = one_line(text)
        if self._head.head == "spans":
            return self._encode_spans(text)
        return self._encode_value(text, question_of(self._head, category, attribute))

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
        logits = np.asarray(logits, np.float64)
        if self._head.head == "label":
            scores = log_softmax(logits)
            best = int(scores.argmax())
            return Answer(self._head.labels[best], float(scores[best]))
        if self._head.head == "spans":
            return self._decode_spans(row, logits)
        return decode_value(row, logits)

    def _encode_label(self, text: str) -> Encoded:
        first, second = pair_of(self._head.fields, text)
        encoding = (
            self._tokenizer.encode(first, second) if second is not None else self._tokenizer.encode(first)
        )
        return Encoded(np.array(encoding.ids, np.int64), one_line(text), np.empty((0, 3), np.int64))

    def _encode_spans(self, text: str) -> Encoded:
        words = text.split(" ")
        encoding = self._tokenizer.encode(words, is_pretokenized=True)
        starts = list(accumulate((len(word) + 1 for word in words), initial=0))
        places = np.array(
            [[-1, start, start + len(word)] for start, word in zip(starts, words, strict=False)], np.int64
        )
        for token, word in reversed(list(enumerate(encoding.word_ids))):
            if word is not None:
                places[word, 0] = token
        return Encoded(np.array(encoding.ids, np.int64), text, places)

    def _encode_value(self, text: str, question: str) -> Encoded:
        pieces = pieces_of(text)
        words = [text[start:end] for start, end in pieces]
        encoding = self._tokenizer.encode(question.split(), words, is_pretokenized=True)
        ids, places = list(encoding.ids), []
        parts = zip(encoding.sequence_ids, encoding.word_ids, encoding.offsets, strict=True)
        for token, (sequence, word, (start, end)) in enumerate(parts):
            if sequence != 1 or start == end:
                continue
            begin = pieces[word][0]
            places.append((token, begin + start, begin + end))
            if begin and not text[begin - 1].isspace():
                ids[token] = self._continued.get(ids[token], ids[token])
        return Encoded(np.array(ids, np.int64), text, np.array(places, np.int64).reshape(-1, 3))

    def _decode_spans(self, row: Encoded, logits: Logits) -> Answer:
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


def question_of(head: EncoderFile, category: str, attribute: str) -> str:
    """The first sequence of the head ``value``."""
    category = one_line(category)
    return f"{attribute}: {category}" if head.with_category and category else attribute


def pair_of(fields: Sequence[str], text: str) -> tuple[str, str | None]:
    """The one or two sequences of the head ``label``: the first field, and the others joined by spaces."""
    found = split_fields(text) if len(fields) > 1 else {}
    if not found or not found.keys() <= set(fields):
        return one_line(text), None
    first, *others = fields
    return found.get(first, ""), " ".join(found[name] for name in others if name in found)


def pieces_of(text: str) -> list[tuple[int, int]]:
    """Words of a text, as first and last character (exclusive); the ending of a plural is one of its own."""
    pieces = []
    for word in _PIECE.finditer(text):
        at = word.start()
        for ending in _PLURAL.finditer(text, word.start(), word.end()):
            pieces += [(at, ending.start()), (ending.start(), ending.end())]
            at = ending.end()
        if at < word.end():
            pieces.append((at, word.end()))
    return pieces


def decode_value(row: Encoded, logits: Logits) -> Answer:
    """The most probable of all spans of the text, and "n/a", whose score is that of the first token.

    Start and end are independent given the text, as in BERT's head for SQuAD 2 (arXiv 1810.04805, 4.3).
    """
    nothing = logits[0, 0] + logits[0, 1]
    tokens = row.places[:, 0]
    if not len(tokens):
        return Answer(NOT_APPLICABLE, 0.0)
    pairs = logits[tokens, 0][:, None] + logits[tokens, 1][None, :]
    pairs[np.tril_indices(len(tokens), -1)] = -np.inf
    scores = log_softmax(np.append(pairs.ravel(), nothing))
    best = int(scores.argmax())
    if best == len(scores) - 1:
        return Answer(NOT_APPLICABLE, float(scores[best]))
    first, last = divmod(best, len(tokens))
    return Answer(row.text[row.places[first, 1] : row.places[last, 2]], float(scores[best]))


def log_softmax(scores: Logits) -> Logits:
    """Logarithm of the softmax over the last dimension, in float64."""
    shifted = np.asarray(scores, np.float64) - np.max(scores, axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def _tag(label: str) -> tuple[bool, str]:
    """Whether a tag begins a span, and its type; "" for the tag outside of spans."""
    return (False, "") if label == OUTSIDE_TAG else (label[0] == "B", label[2:])
