# SPDX-License-Identifier: Apache-2.0
"""The head ``value``: first and last token of the value of an attribute, in a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from quorum.runtimes.heads.base import Answer, Encoded, Logits, log_softmax
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

if TYPE_CHECKING:
    from quorum.runtimes.encoder_folder import EncoderFile

_PIECE = re.compile(r"\S+")
_PLURAL = re.compile(r"(?<=[^\W\d_]{3})(?<![sS])[sS](?!\w)")
"""The ending of a plural: the value is often the singular of a word of the text ("Jersey" in "Jerseys")."""


class ValueCodec:
    """Logits of a token are of a value's start and end."""

    dims: ClassVar = 3
    asks: ClassVar = True

    def __init__(self, tokenizer: Any, described: EncoderFile) -> None:
        self._tokenizer, self._described = tokenizer, described
        # A cut ending is the continuation of a word, where the vocabulary tells these apart.
        self._continued = {
            tokenizer.token_to_id(s): tokenizer.token_to_id(f"##{s}")
            for s in "sS"
            if tokenizer.token_to_id(s) is not None and tokenizer.token_to_id(f"##{s}") is not None
        }

    @staticmethod
    def outputs(labels: Sequence[str]) -> int:
        """Start and end."""
        return 2

    @staticmethod
    def problem(labels: Sequence[str]) -> str:
        """There must be none: logits are of places."""
        return "it has labels, and places in the text need none" if labels else ""

    @staticmethod
    def values(labels: Sequence[str]) -> set[str]:
        """None: values are those of the text."""
        return set()

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """The question and the words of the text, as two sequences."""
        text, question = one_line(text), question_of(self._described, category, attribute)
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

    def decode(self, row: Encoded, logits: Logits) -> Answer:
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


def question_of(described: EncoderFile, category: str, attribute: str) -> str:
    """The first sequence of the head ``value``."""
    category = one_line(category)
    return f"{attribute}: {category}" if described.with_category and category else attribute


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
