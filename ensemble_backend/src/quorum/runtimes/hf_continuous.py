# SPDX-License-Identifier: Apache-2.0
"""Continuous batching for the ``hf`` runtime, by Transformers' manager with a paged KV cache."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from typing import Any, ClassVar

import torch
from transformers import ContinuousBatchingConfig, LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import RequestStatus

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.hf_batch import Job, log_probs_of
from quorum.runtimes.hf_guide import Guide
from quorum.runtimes.hf_model import Loaded
from quorum.runtimes.options import HfOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)

_PAGE_TOKENS = 32
_LOOK_S = 0.02
_RETRY_S = 1.0


class ContinuousBatcher:
    """Takes tokens from the manager's thread in another thread, and cancels expired questions."""

    def __init__(self, settings: RuntimeSettings[HfOptions], loaded: Loaded, guide: Guide | None) -> None:
        self._loaded, self._member, options = loaded, settings.member, settings.options
        scores = any(own.scores for own in (options, *settings.peers))
        self._config = ContinuousBatchingConfig(
            page_size=_PAGE_TOKENS,
            num_blocks=max(1, options.kv_cache_tokens // _PAGE_TOKENS),
            max_batch_tokens=min(2048, options.kv_cache_tokens),
            max_requests_per_batch=options.max_batch,
            # Masks are made on the host from the last token, so steps cannot overlap or be recorded.
            use_async_batching=False if guide else None,
            use_cuda_graph=False if guide else None,
            # Flash attention would be downloaded.
            auto_switch_to_flash=False,
            # With a guide they would be those after its mask.
            return_logprobs=scores and guide is None,
        )
        self._mask = _Mask(guide, scores) if guide else None
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._running = True
        self._manager: Any = self._open()
        self._thread = threading.Thread(target=self._run, name="quorum-hf", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Add a job to the running batch."""
        if job.question.expired:
            job.settle(Status.TIMEOUT)
            return
        name = f"q{next(self._numbers)}"
        with self._lock:
            self._jobs[name] = job
            manager = self._manager
            if self._mask:
                self._mask.matchers[name] = _Tracked(job.matcher)
                job.matcher = None
        taken = manager.add_request(
            job.prompt, request_id=name, max_new_tokens=job.answers.limit, streaming=True
        )
        if taken is None:
            self._drop(name, Status.ERROR)

    def close(self) -> None:
        """Stop at the next step."""
        self._running = False
        self._thread.join()
        self._manager.stop(block=True, hard_stop=True)
        self._manager.destroy()

    def _open(self) -> Any:
        manager = self._loaded.model.init_continuous_batching(
            generation_config=self._loaded.model.generation_config, continuous_batching_config=self._config
        )
        if self._mask:
            manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._mask]))
            manager.logit_processor.tensors_required = 1
        manager.start()
        return manager

    def _run(self) -> None:
        while self._running:
            result = self._manager.get_result(timeout=_LOOK_S)
            if result is not None:
                self._take(result)
            elif not self._manager.is_running():
                self._reopen()
            for name, job in list(self._jobs.items()):
                if job.question.expired or job.answers.closed:
                    self._drop(name, Status.TIMEOUT)

    def _take(self, result: Any) -> None:
        job = self._jobs.get(result.request_id)
        if job is None:
            return
        log_probs = result.logprobs
        if self._mask and (tracked := self._mask.matchers.get(result.request_id)):
            log_probs = tracked.log_probs
        seen = len(job.answer)
        known = itertools.chain(log_probs[seen:], itertools.repeat(math.nan))
        for token, log_prob in zip(result.generated_tokens[seen:], known, strict=False):
            if job.answers.take(job, token, log_prob):
                break
        if not job.settled and result.status == RequestStatus.FAILED:
            logger.error("member %s: a question failed: %s", self._member, result.error)
            job.settle(Status.ERROR)
        elif not job.settled and result.is_finished():
            job.answers.finish(job)
        if job.settled:
            self._drop(result.request_id, Status.ERROR)

    def _drop(self, name: str, status: Status) -> None:
        job = self._jobs.pop(name, None)
        if job is not None:
            job.settle(status)
            self._manager.cancel_request(name)
        if self._mask:
            self._mask.matchers.pop(name, None)

    def _reopen(self) -> None:
        logger.error("member %s: the batch failed; its questions abstain", self._member)
        with self._lock:
            for name in list(self._jobs):
                self._drop(name, Status.ERROR)
            try:
                self._manager.destroy()
                self._manager = self._open()
            except Exception:
                logger.exception("member %s: the batch cannot be made anew yet", self._member)
                time.sleep(_RETRY_S)


class _Tracked:
    """A matcher, brought up to the tokens of its answer, and their log-probabilities before the mask.

    Of a member that is not guided, with one that is, there is no matcher.
    """

    def __init__(self, matcher: Any) -> None:
        self.matcher, self._seen = matcher, 0
        self.log_probs: list[float] = []

    def catch_up(self, tokens: list[int]) -> None:
        if self.matcher is not None:
            self.matcher.consume_tokens(tokens[self._seen :])
        self._seen = len(tokens)

    def keep(self, log_prob: float) -> None:
        """Take the log-probability of the token that comes next."""
        self.log_probs[self._seen :] = [log_prob]


class _Mask(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """Masks tokens that the answers' grammars do not allow; runs on the manager's thread.

    Before each step the manager passes the requests that get a token, in the order of the scores. The integer
    per request that it carries along is not used.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {}
    ignored_kwargs = ()

    def __init__(self, guide: Guide, scores: bool) -> None:
        self.matchers: dict[str, _Tracked] = {}
        self._guide, self._scores = guide, scores
        self._rows: list[_Tracked | None] = []

    def fill_defaults(self, int32_tensor: Any) -> None:
        """Set the unused integers to 0."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
        """Bring each request's matcher up to its last token."""
        self._rows = [self.matchers.get(request.state.request_id) for request in requests_with_new_token]
        for request, tracked in zip(requests_with_new_token, self._rows, strict=True):
            if tracked:
                tracked.catch_up(request.state.to_generation_output().generated_tokens)
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: Any, tensor_arg: Any) -> Any:
        """Set the scores of disallowed tokens to minus infinity."""
        # Unfinished prompts have rows too, after those that get a token; their scores are not read.
        count = len(self._rows)
        matchers = [tracked.matcher if tracked else None for tracked in self._rows]
        masked = self._guide.mask([*matchers, *[None] * (len(scores) - count)], scores)
        if self._scores:
            # The manager takes the same tokens.
            log_probs = log_probs_of(scores[:count], masked[:count].argmax(-1))
            for tracked, log_prob in zip(self._rows, log_probs, strict=True):
                if tracked:
                    tracked.keep(log_prob)
        return masked
