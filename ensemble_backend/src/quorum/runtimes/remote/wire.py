# SPDX-License-Identifier: Apache-2.0
"""The parts of OpenAI's chat completions that are read, whole answers and chunks of a stream alike.

Source: https://platform.openai.com/docs/api-reference/chat. Other fields are ignored; a field of another type
is an error.
"""

from __future__ import annotations

import msgspec

from quorum.runtimes.base import Usage


class PromptDetails(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """Tokens that were counted; ``prompt_cache_hit_tokens`` is the name that some services use."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    prompt_cache_hit_tokens: int | None = None

    def read(self) -> Usage:
        """As runtimes report it."""
        details = self.prompt_tokens_details
        cached = details.cached_tokens if details else self.prompt_cache_hit_tokens
        counts = (self.prompt_tokens, self.completion_tokens, cached)
        prompt, answer, held = (max(count or 0, 0) for count in counts)
        # Some services count more cached tokens than the prompt has.
        return Usage(prompt, answer, min(held, prompt))


class TokenScore(msgspec.Struct):
    """A token with its log-probability; ``bytes`` are its UTF-8, which may be a part of a character."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class Scores(msgspec.Struct):
    """Log-probabilities of a chunk."""

    content: list[TokenScore] | None = None


class Message(msgspec.Struct):
    """A message, or what a chunk adds to it."""

    content: str | None = None
    refusal: str | None = None


class WireChoice(msgspec.Struct):
    """One of the answers; one is asked for."""

    message: Message | None = None
    delta: Message | None = None
    finish_reason: str | None = None
    logprobs: Scores | None = None


class Chunk(msgspec.Struct):
    """An answer, or a chunk of one; ``error`` stands in streams that fail half-way."""

    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = msgspec.Raw()

    @property
    def problem(self) -> str:
        """The error, as JSON; "" where there is none."""
        error = bytes(self.error)
        return "" if error == b"null" else error.decode("utf-8", "replace")


_DECODER = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """Decode JSON; raises msgspec.MsgspecError (a ValueError) for anything else."""
    return _DECODER.decode(data)
