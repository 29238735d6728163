# SPDX-License-Identifier: Apache-2.0
"""Jobs of the ``hf`` runtime's batchers, and the end of their answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quorum.runtimes.base import Done, Generated, Question, Reply, RuntimeSettings, Usage
from quorum.runtimes.hf_model import Loaded
from quorum.runtimes.offsets import TokenEnds
from quorum.runtimes.options import HfOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)


class Answers:
    """Collects a member's answers token by token and settles each as soon as it is complete.

    Attributes:
        limit: Tokens of the longest answer.
        scores: Whether answers come with log-probabilities.
    """

    def __init__(self, settings: RuntimeSettings[HfOptions], loaded: Loaded) -> None:
        self._tokenizer, self._end = loaded.tokenizer, frozenset(loaded.end)
        self.limit, self._member = settings.options.max_new_tokens, settings.member
        self.scores = settings.options.scores
        self._ends = TokenEnds(lambda lists: [self._decode(tokens) for tokens in lists])
        self._lock, self._closed = threading.Lock(), False

    def pass_on(self, done: Done, reply: Reply) -> None:
        """Call ``done``, unless the member was closed."""
        with self._lock:
            if not self._closed:
                done(reply)

    @property
    def closed(self) -> bool:
        """Whether the member was closed: its answers are dropped."""
        return self._closed

    def close(self) -> None:
        """Drop all later answers: the batcher may go on for other members."""
        with self._lock:
            self._closed = True

    def take(self, job: Job, token: int, log_prob: float) -> bool:
        """Add a token to an answer; returns whether this settled it."""
        if token in self._end:
            return self.finish(job)
        job.answer.append(token)
        job.log_probs.append(log_prob)
        if job.matcher is not None and not job.matcher.consume_token(token):
            error = job.matcher.get_error()
            logger.error("member %s: token %d left the grammar: %s", self._member, token, error)
            job.settle(Status.ERROR)
            return True
        if len(job.answer) >= self.limit or (job.matcher is not None and job.matcher.is_stopped()):
            return self.finish(job)
        if job.question.expired:
            job.settle(Status.TIMEOUT)
            return True
        return False

    def finish(self, job: Job) -> bool:
        """Settle an answer that is complete or has the maximum length; returns True."""
        try:
            job.settle(self._generated(job))
        except Exception:
            logger.exception("member %s: an answer could not be read", self._member)
            job.settle(Status.ERROR)
        return True

    def _generated(self, job: Job) -> Generated:
        text, usage = self._decode(job.answer), Usage(len(job.prompt), len(job.answer))
        if not self.scores:
            return Generated(text, usage=usage)
        return Generated(text, self._ends.find(job.answer, text), job.log_probs, usage)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


@dataclass(slots=True)
class Job:
    """One question in a batch.

    Attributes:
        done: Takes the answer; called once.
        answers: Collects the answers of its member.
        prompt: The question's tokens.
        matcher: Tracks the answer in its grammar; ``None`` where decoding is not guided.
        answer: The tokens so far, without the end token.
        log_probs: Their log-probabilities before the grammar's mask; nan: not known.
        settled: Whether ``done`` was called.
    """

    question: Question
    done: Done
    answers: Answers
    prompt: list[int]
    matcher: Any = None
    answer: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    settled: bool = False

    def settle(self, reply: Reply) -> None:
        """Call ``done``, once."""
        if not self.settled:
            self.settled = True
            self.answers.pass_on(self.done, reply)


def log_probs_of(logits: Any, tokens: Any) -> list[float]:
    """The log-probabilities (``[B]``) of tokens (``[B]``) by logits ``[B, V]``."""
    picked = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    found: list[float] = (picked - logits.logsumexp(1)).tolist()
    return found
