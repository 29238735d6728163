# SPDX-License-Identifier: Apache-2.0
"""Run a local Hugging Face causal language model by Transformers, on a GPU or a CPU, without a build."""

from __future__ import annotations

import logging
import os

# Before Transformers is imported: no network access.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from quorum.runtimes.base import Done, Question, RuntimeSettings
from quorum.runtimes.chat import ChatTokenizer
from quorum.runtimes.hf_batch import Job
from quorum.runtimes.hf_continuous import ContinuousBatcher
from quorum.runtimes.hf_dynamic import DynamicBatcher
from quorum.runtimes.hf_guide import Guide
from quorum.runtimes.hf_model import Loaded, load
from quorum.runtimes.options import HfOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)


class HfRuntime:
    """Serves a checkpoint folder, by :class:`quorum.runtimes.options.HfOptions`.

    Every member is a separate process: members on the same checkpoint load it once each.
    """

    def __init__(self, settings: RuntimeSettings[HfOptions]) -> None:
        self._member, options = settings.member, settings.options
        settings.check_files()
        self._loaded = load(settings)
        self._tokenizer = ChatTokenizer(self._loaded.tokenizer, options.chat)
        self._max_new_tokens = options.max_new_tokens
        self._longest = min(options.max_seq_len or self._loaded.positions, self._loaded.positions)
        self._reuses, self._prompt_tokens = options.batching == "continuous", 0
        self._guide = _guide(settings, self._loaded)
        batcher: type[ContinuousBatcher | DynamicBatcher] = (
            ContinuousBatcher if self._reuses else DynamicBatcher
        )
        self._batcher = batcher(settings, self._loaded, self._guide)

    def submit(self, question: Question, done: Done) -> None:
        """Tokenise the question and hand it to the batcher."""
        tokens = self._tokenizer.encode(question.prompt)
        if len(tokens) + self._max_new_tokens > self._longest:
            is_models = self._longest == self._loaded.positions
            logger.warning(
                "member %s: a prompt of %d tokens and max_new_tokens %d exceed %s",
                self._member,
                len(tokens),
                self._max_new_tokens,
                f"the model's {self._longest} positions" if is_models else f"max_seq_len {self._longest}",
            )
            done(Status.ERROR)
            return
        self._prompt_tokens += len(tokens)
        matcher = self._guide.start(question.schema) if self._guide else None
        self._batcher.submit(Job(question, done, tokens, matcher))

    @property
    def prompt_tokens(self) -> tuple[int, int] | None:
        """Prompt tokens from the KV cache (dynamic batches share none), and all prompt tokens.

        ``None`` for ``continuous``, which reuses shared prefixes but does not report how much.
        """
        return None if self._reuses else (0, self._prompt_tokens)

    def close(self) -> None:
        """Stop generating; questions in flight are dropped."""
        self._batcher.close()


def _guide(settings: RuntimeSettings[HfOptions], loaded: Loaded) -> Guide | None:
    if not settings.options.guided:
        return None
    try:
        return Guide(loaded, settings.options.threads)
    except Exception as error:
        raise settings.error(
            f"the tokenizer of {settings.options.model!r} cannot guide decoding ({error}); set"
            " `guided: false`, answers are then parsed as they come"
        ) from error
