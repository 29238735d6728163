# SPDX-License-Identifier: Apache-2.0
"""Run a local Hugging Face causal language model by Transformers, on a GPU or a CPU, without a build."""

from __future__ import annotations

import logging
import os

# Before Transformers is imported: no network access.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from quorum.runtimes.base import Done, Question, RuntimeSettings
from quorum.runtimes.chat import ChatTokenizer
from quorum.runtimes.hf_batch import Answers, Job
from quorum.runtimes.hf_host import Host
from quorum.runtimes.options import HfOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)


class HfRuntime:
    """Serves a checkpoint folder, by :class:`quorum.runtimes.options.HfOptions`.

    Members on the same checkpoint share it, and their questions share batches, each with its adapter; with
    ``shared: false`` a member has a process and a checkpoint of its own.
    """

    def __init__(self, settings: RuntimeSettings[HfOptions]) -> None:
        self._member, options = settings.member, settings.options
        settings.check_files()
        self._host = Host.of(settings)
        loaded = self._host.loaded
        try:
            self._tokenizer = ChatTokenizer(loaded.tokenizer, options.chat)
            self._answers, self._guided = Answers(settings, loaded), options.guided
        except BaseException:
            self._host.release()
            raise
        self._max_new_tokens = options.max_new_tokens
        self._longest = min(options.max_seq_len or loaded.positions, loaded.positions)
        self._is_models = self._longest == loaded.positions
        self._reuses, self._prompt_tokens = options.batching == "continuous", 0

    def submit(self, question: Question, done: Done) -> None:
        """Tokenise the question and hand it to the batcher."""
        tokens = self._tokenizer.encode(question.prompt)
        if len(tokens) + self._max_new_tokens > self._longest:
            logger.warning(
                "member %s: a prompt of %d tokens and max_new_tokens %d exceed %s",
                self._member,
                len(tokens),
                self._max_new_tokens,
                f"the model's {self._longest} positions"
                if self._is_models
                else f"max_seq_len {self._longest}",
            )
            done(Status.ERROR)
            return
        self._prompt_tokens += len(tokens)
        guide = self._host.guide if self._guided else None
        matcher = guide.start(question.schema) if guide else None
        self._host.batcher.submit(Job(question, done, self._answers, tokens, matcher))

    @property
    def prompt_tokens(self) -> tuple[int, int] | None:
        """Prompt tokens from the KV cache (dynamic batches share none), and all prompt tokens.

        ``None`` for ``continuous``, which reuses shared prefixes but does not report how much.
        """
        return None if self._reuses else (0, self._prompt_tokens)

    def close(self) -> None:
        """Drop the member's questions in flight; the last member also stops the model."""
        self._answers.close()
        self._host.release()
