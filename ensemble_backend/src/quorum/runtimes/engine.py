# SPDX-License-Identifier: Apache-2.0
"""Call compiled TensorRT-LLM engines, served by Triton's C++ backend of 1.2.1; unverified on GPU.

The engine is a separate Triton model from token ids to token ids. The member builds the prompt, tokenises,
keeps the deadline and abstains where the engine fails.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.runtimes.base import Done, Generated, Infer, Question, Reply, RuntimeSettings, Usage
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.chat import ChatTokenizer, further_ends
from quorum.runtimes.engine_names import LORA_TASK, PREFIX
from quorum.runtimes.grammar import answer_pattern
from quorum.runtimes.offsets import TokenEnds
from quorum.runtimes.options import EngineOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)

CALLS = 24
"""Maximum concurrent calls from a Python model; at about thirty it hangs."""
_STOPPERS = 4
_OUTPUTS = ("output_ids", "sequence_length")
_LOG_PROBS = "output_log_probs"


class EngineRuntime:
    """Calls the Triton model of a compiled engine; most options are in that model's configuration."""

    def __init__(self, settings: RuntimeSettings[EngineOptions]) -> None:
        options = settings.options
        self._member, self._model = settings.member, f"{PREFIX}{settings.member}"
        if settings.infer is None:
            raise settings.error("an engine is served inside Triton only")
        self._infer: Infer = settings.infer
        tokenizer = options.tokenizer or options.model
        folder = settings.root / (tokenizer or "")
        if not tokenizer or not folder.exists():
            missing = f"its tokenizer's folder {folder} does not exist; " if tokenizer else ""
            raise settings.error(f"{missing}name the folder of its tokenizer in `tokenizer`")
        self._tokenizer = ChatTokenizer(str(folder), options.chat)
        # A checkpoint names its end tokens; its folder may be elsewhere than the engine is served.
        named = {str(folder), str(settings.root / (options.model or tokenizer))}
        self._further_ends = further_ends(self._tokenizer, *(one for one in named if Path(one).is_dir()))
        self._ends = TokenEnds(self._tokenizer.decode_all)
        self._max_tokens, self._guided, self._scores = options.max_tokens, options.guided, options.scores
        self._outputs = (*_OUTPUTS, _LOG_PROBS) if options.scores else _OUTPUTS
        self._lora = options.lora is not None
        self._numbers = itertools.count(1)
        self._open = True
        self._calls = ThreadPoolExecutor(CALLS, thread_name_prefix="quorum-engine")
        # A separate pool: a stop must not wait behind the call that it stops.
        self._stops = ThreadPoolExecutor(_STOPPERS, thread_name_prefix="quorum-engine-stop")

    def submit(self, question: Question, done: Done) -> None:
        """Queue the question; at most :data:`CALLS` are tokenised and inside the engine at once.

        The caller is the step itself, which must not be held up.
        """
        self._calls.submit(self._ask, question, done)

    def close(self) -> None:
        """Drop waiting questions; calls in flight end with the engine."""
        self._open = False
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._stops.shutdown(wait=False, cancel_futures=True)

    def _inputs(self, question: Question) -> dict[str, Any]:
        tokens = self._tokenizer.encode(question.prompt)
        inputs: dict[str, Any] = {
            "input_ids": np.array([tokens], np.int32),
            "input_lengths": np.array([[len(tokens)]], np.int32),
            "request_output_len": np.array([[self._max_tokens]], np.int32),
            "runtime_top_k": np.array([[1]], np.int32),
        }
        if self._tokenizer.end is not None:
            inputs["end_id"] = inputs["pad_id"] = np.array([[self._tokenizer.end]], np.int32)
        if self._further_ends:
            inputs["stop_words_list"] = _stop_words(self._further_ends)
        if self._guided:
            pattern = answer_pattern(question.schema).encode()
            inputs["guided_decoding_guide_type"] = np.array([[b"regex"]], object)
            inputs["guided_decoding_guide"] = np.array([[pattern]], object)
        if self._scores:
            inputs["return_log_probs"] = np.array([[True]])
        if self._lora:
            inputs["lora_task_id"] = np.array([[LORA_TASK]], np.uint64)
        return inputs

    def _ask(self, question: Question, done: Done) -> None:
        reply = Status.TIMEOUT if question.expired else self._answer(question)
        if self._open:
            done(reply)

    def _answer(self, question: Question) -> Reply:
        number = f"{self._member}-{time.monotonic_ns()}-{next(self._numbers)}"
        try:
            inputs = self._inputs(question)
        except Exception:
            logger.exception("member %s: a question could not be tokenised", self._member)
            return Status.ERROR
        # Stops the generation at its deadline or when it is cancelled, to free its place in the batch.
        stop = Cancellation()
        stop.when_cancelled(partial(self._stop_soon, number, inputs))
        timer = threading.Timer(max(0.0, question.left_s), stop.cancel)
        try:
            timer.start()
            question.cancellation.when_cancelled(stop.cancel)
            try:
                outputs = self._infer(self._model, inputs, self._outputs, number)
            finally:
                timer.cancel()
                stop.disarm()
            prompt = inputs["input_ids"].shape[1]
            reply = self._generated(outputs, prompt)
        except Exception:
            logger.exception("member %s: the engine failed", self._member)
            return Status.ERROR
        return Status.TIMEOUT if question.expired else reply

    def _generated(self, outputs: dict[str, Any], prompt_tokens: int) -> Generated:
        length = int(outputs["sequence_length"].reshape(-1)[0])
        usage = Usage(prompt_tokens, length)
        tokens = outputs["output_ids"].reshape(-1)[:length].tolist()
        # The backend leaves the stop word on the answer that it ends.
        if tokens and tokens[-1] in self._further_ends:
            del tokens[-1]
            length -= 1
        text = self._tokenizer.decode(tokens)
        log_probs = outputs[_LOG_PROBS].reshape(-1)[:length] if self._scores else np.zeros(0)
        # Zeros everywhere mean that the backend did not compute them.
        if len(log_probs) < length or not log_probs.any():
            return Generated(text, usage=usage)
        return Generated(text, self._ends.find(tokens, text), log_probs.tolist(), usage)

    def _stop_soon(self, number: str, inputs: dict[str, Any]) -> None:
        if self._open:
            self._stops.submit(self._stop, number, inputs)

    def _stop(self, number: str, inputs: dict[str, Any]) -> None:
        identity = {name: inputs[name] for name in ("input_ids", "input_lengths", "request_output_len")}
        try:
            self._infer(self._model, {**identity, "stop": np.array([[True]])}, (), number)
        except Exception:
            logger.warning("member %s: a generation could not be stopped", self._member, exc_info=True)


def _stop_words(tokens: Sequence[int]) -> npt.NDArray[np.int32]:
    """``stop_words_list`` of words of one token: (1, 2, n) of all tokens, and where each word ends."""
    return np.array([[tokens, range(1, len(tokens) + 1)]], np.int32)
