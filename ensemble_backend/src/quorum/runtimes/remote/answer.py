# SPDX-License-Identifier: Apache-2.0
"""Put an answer together from its chunks."""

from __future__ import annotations

import codecs
import math
from collections.abc import Collection

from quorum.runtimes.base import Generated, Usage
from quorum.runtimes.remote.closing import Closing
from quorum.runtimes.remote.wire import Chunk, TokenScore
from quorum.tasks.parse import MAX_ANSWER_CHARS

MOST_AFTER_END = 8
"""Chunks that are read behind a complete object, for the tokens that were used."""
_MOST_SCORES = 16 * MAX_ANSWER_CHARS


class Answer:
    """One answer as it comes in.

    Args:
        keys: Of the object that is waited for.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self._parts: list[str] = []
        self._tokens: list[TokenScore] = []
        self._closing = Closing(keys)
        self._chars = self._after = self._chunks = self._score_size = 0
        self.finish: str | None = None
        self.refused = False
        self.usage: Usage | None = None
        self.has_choice = False

    def add(self, chunk: Chunk) -> None:
        """Add a chunk, or a whole answer; raises ValueError for log-probabilities without end."""
        if chunk.usage is not None:
            self.usage = chunk.usage.read()
        for choice in (chunk.choices or [])[:1]:
            self.has_choice = True
            self.finish = choice.finish_reason or self.finish
            message = choice.message or choice.delta
            if message is not None:
                self.refused = self.refused or bool(message.refusal)
                self._write(message.content or "")
            if choice.logprobs is not None:
                self._add_scores(choice.logprobs.content or [])
        self._after += self._closing.is_complete

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    @property
    def is_complete(self) -> bool:
        """Whether the object with all keys has been written."""
        return self._closing.is_complete

    @property
    def is_enough(self) -> bool:
        """Whether nothing that follows can be of use: the LLM goes on behind its answer, or for ever."""
        return self._chars >= MAX_ANSWER_CHARS or self._after > MOST_AFTER_END

    @property
    def has_scores(self) -> bool:
        """Whether log-probabilities came with it."""
        return bool(self._tokens)

    def generated(self, with_scores: bool, prompt_tokens: int) -> Generated:
        """The text with its tokens.

        Args:
            with_scores: Whether log-probabilities are wanted.
            prompt_tokens: Estimate, for a stream that was closed before it reported the tokens used.
        """
        text = self.text
        usage = self.usage or Usage(prompt_tokens, len(self._tokens) or self._chunks)
        if with_scores and (ends := _ends(text, self._tokens)):
            log_probs = (math.nan if token.logprob is None else token.logprob for token in self._tokens)
            return Generated(text, ends, list(log_probs), usage)
        return Generated(text, usage=usage)

    def _add_scores(self, tokens: list[TokenScore]) -> None:
        self._score_size += sum(1 + len(token.token) + len(token.bytes or ()) for token in tokens)
        if self._score_size > _MOST_SCORES:
            raise ValueError(f"log-probabilities of more than {_MOST_SCORES} characters")
        self._tokens += tokens

    def _write(self, content: str) -> None:
        if content:
            self._parts.append(content)
            self._chars += len(content)
            self._chunks += 1
            self._closing.add(content)


def _ends(text: str, tokens: list[TokenScore]) -> list[int]:
    """(t,) characters of the text up to and with each token; empty where they are not the tokens of it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ends, written = [], 0
    parts = []
    for token in tokens:
        try:
            data = token.token.encode() if token.bytes is None else bytes(token.bytes)
        except ValueError:
            return []
        part = decoder.decode(data)
        parts.append(part)
        written += len(part)
        ends.append(min(written, len(text)))
    # Behind the text may stand the token that ends it.
    return ends if "".join(parts).startswith(text) else []
