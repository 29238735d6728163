# SPDX-License-Identifier: Apache-2.0
"""Dynamic batching for the ``hf`` runtime: one ``generate`` answers all waiting questions."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.hf_batch import Job, log_probs_of
from quorum.runtimes.hf_guide import Guide
from quorum.runtimes.hf_model import Loaded
from quorum.runtimes.options import HfOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)

# With several callers, those answered last ask again just after a batch has ended; without a wait they would
# form a small batch, and every second batch would stay small.
_WINDOW_S = 0.005


class DynamicBatcher:
    """Runs one batch at a time on one thread, until its last answer is complete."""

    def __init__(self, settings: RuntimeSettings[HfOptions], loaded: Loaded, guide: Guide | None) -> None:
        self._member, self._max_batch = settings.member, settings.options.max_batch
        # Members that share the model are asked the same question one after the other.
        self._waits = bool(settings.peers or loaded.adapters)
        self._loaded, self._guide = loaded, guide
        self._inbox: deque[Job] = deque()
        self._wake = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="quorum-hf", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job for the next batch."""
        with self._wake:
            self._inbox.append(job)
            self._wake.notify()

    def close(self) -> None:
        """Stop at the next token."""
        with self._wake:
            self._running = False
            self._wake.notify()
        self._thread.join()

    def is_over(self, job: Job) -> bool:
        """Whether a job needs no more tokens."""
        return job.settled or job.answers.closed or not self._running

    def _run(self) -> None:
        last = 0
        while batch := self._collect(last):
            last = len(batch)
            for job in batch:
                if job.question.expired:
                    job.settle(Status.TIMEOUT)
            self._answer([job for job in batch if not self.is_over(job)])

    def _collect(self, last: int) -> list[Job]:
        """The next batch; empty at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or not self._running)
            if self._waits or last > 1 or len(self._inbox) > 1:
                full = self._max_batch
                self._wake.wait_for(lambda: len(self._inbox) >= full or not self._running, _WINDOW_S)
            if not self._running:
                return []
            return [self._inbox.popleft() for _ in range(min(len(self._inbox), self._max_batch))]

    def _answer(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        too_many = False
        try:
            self._generate(jobs)
        except torch.OutOfMemoryError:
            # The error references frames that hold the batch's tensors: release it first.
            too_many = True
        except Exception:
            logger.exception("member %s: a batch failed", self._member)
        if too_many:
            self._halve(jobs)
        if self._running:
            for job in jobs:
                job.settle(Status.ERROR)

    def _halve(self, jobs: list[Job]) -> None:
        unsettled = [job for job in jobs if not job.settled]
        logger.warning("member %s: %d questions do not fit the GPU at once", self._member, len(unsettled))
        torch.cuda.empty_cache()
        if len(jobs) == 1:
            return
        for job in unsettled:
            job.answer.clear()
            job.log_probs.clear()
            if job.matcher is not None:
                job.matcher.reset()
        half = (len(unsettled) + 1) // 2
        self._answer(unsettled[:half])
        self._answer(unsettled[half:])

    def _generate(self, jobs: list[Job]) -> None:
        longest = max(len(job.prompt) for job in jobs)
        shape = (len(jobs), longest)
        tokens = torch.full(shape, self._loaded.padding, dtype=torch.long)
        attended = torch.zeros(shape, dtype=torch.long)
        for row, job in enumerate(jobs):
            tokens[row, longest - len(job.prompt) :] = torch.tensor(job.prompt)
            attended[row, longest - len(job.prompt) :] = 1
        kept = _Kept() if any(job.answers.scores for job in jobs) else None
        processors: list[LogitsProcessor] = [kept] if kept else []
        if self._guide:
            processors.append(_Mask(jobs, self._guide))
        with torch.inference_mode():
            self._loaded.model.generate(
                input_ids=tokens.to(self._loaded.device),
                attention_mask=attended.to(self._loaded.device),
                max_new_tokens=max(job.answers.limit for job in jobs),
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([_Watch(self, jobs, kept)]),
                **self._loaded.batch_arguments([job.question.adapter for job in jobs]),
            )


class _Kept(LogitsProcessor):  # type: ignore[misc]
    """Keeps the last step's logits as the model gave them: those of all steps would not fit the GPU."""

    logits: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logits = scores
        return scores


class _Mask(LogitsProcessor):  # type: ignore[misc]
    """Masks tokens that the answers' grammars do not allow."""

    def __init__(self, jobs: list[Job], guide: Guide) -> None:
        self._jobs, self._guide = jobs, guide

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self._guide.mask([None if job.settled else job.matcher for job in self._jobs], scores)


class _Watch(StoppingCriteria):  # type: ignore[misc]
    """Takes each new token, settles complete answers, and ends rows that are settled or expired."""

    def __init__(self, batcher: DynamicBatcher, jobs: list[Job], kept: _Kept | None) -> None:
        self._batcher, self._jobs, self._kept = batcher, jobs, kept

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        tokens = input_ids[:, -1]
        log_probs = log_probs_of(self._kept.logits, tokens) if self._kept else [math.nan] * len(tokens)
        for job, token, log_prob in zip(self._jobs, tokens.tolist(), log_probs, strict=True):
            if not self._batcher.is_over(job):
                job.answers.take(job, token, log_prob)
        over = [self._batcher.is_over(job) for job in self._jobs]
        return torch.tensor(over, device=input_ids.device)
