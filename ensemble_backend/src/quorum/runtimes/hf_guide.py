# SPDX-License-Identifier: Apache-2.0
"""Guide decoding for the ``hf`` runtime, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import llguidance
import torch
from llguidance.hf import from_tokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par

from quorum.runtimes.grammar import answer_pattern
from quorum.runtimes.hf_model import Loaded

_BITS = 32


class Guide:
    """Tracks answers in their grammars and masks disallowed tokens."""

    def __init__(self, loaded: Loaded, threads: int) -> None:
        self._loaded = loaded
        self._tokens = from_tokenizer(
            loaded.tokenizer, n_vocab=max(loaded.width, len(loaded.tokenizer)), eos_token=list(loaded.end)
        )
        self._executor = llguidance.LLExecutor(num_threads=threads)
        self._shifts = torch.arange(_BITS, dtype=torch.int32, device=loaded.device)

    def start(self, schema: str) -> Any:
        """A matcher for an answer by its JSON schema; raises ValueError if the engine refuses the schema."""
        matcher = llguidance.LLMatcher(self._tokens, _grammar(answer_pattern(schema, bounded=True)))
        if matcher.is_error():
            raise ValueError(f"the grammar engine refused the answer's pattern: {matcher.get_error()}")
        return matcher

    def mask(self, matchers: Sequence[Any | None], scores: Any) -> Any:
        """Set the scores (FP32 ``[B, V]``) of disallowed tokens to minus infinity.

        Rows without one of the ``B`` matchers stay as they are.
        """
        rows = [(matcher, row) for row, matcher in enumerate(matchers) if matcher is not None]
        if not rows:
            return scores
        bits = allocate_token_bitmask(len(matchers), self._tokens.vocab_size)
        fill_next_token_bitmask_par(self._executor, rows, bits)
        words = torch.from_numpy(bits).to(scores.device)
        allowed = ((words.unsqueeze(-1) >> self._shifts) & 1).flatten(1)[:, : scores.shape[1]].bool()
        return scores.masked_fill(~allowed, float("-inf"))


@lru_cache(maxsize=1024)
def _grammar(pattern: str) -> str:
    return str(llguidance.LLMatcher.grammar_from_regex(pattern))
