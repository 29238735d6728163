# SPDX-License-Identifier: Apache-2.0
"""The head ``spans``: a tag for each word of a text."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from quorum.decision.spans import MAX_SPANS, TextSpan, dump_spans
from quorum.runtimes.heads.base import Answer, Encoded, Head, Logits, log_softmax
from quorum_contract.fields import one_line

OUTSIDE_TAG = "O"


class SpansCodec:
    """Logits of a word's first token are of the tags."""

    def __init__(self, tokenizer: Any, head: Head) -> None:
        self._tokenizer = tokenizer
        self._tags = [_tag(label) for label in head.labels]

    def encode(self, text: str, category: str, attribute: str) -> Encoded:
        """The words of the text, each with its first token."""
        text = one_line(text)
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


def _tag(label: str) -> tuple[bool, str]:
    """Whether a tag begins a span, and its type; "" for the tag outside of spans."""
    return (False, "") if label == OUTSIDE_TAG else (label[0] == "B", label[2:])
