# SPDX-License-Identifier: Apache-2.0
"""Run LLMs on NVIDIA GPUs by TensorRT-LLM's LLM API, as documented for 1.2.1; unverified on GPU.

Members with the same base model share an LLM: its batches mix their questions, each with the LoRA adapter
that its member has for the attributes that are asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from quorum.runtimes.base import (
    Done,
    Generated,
    Question,
    Reply,
    RuntimeConfigError,
    RuntimeSettings,
    Usage,
)
from quorum.runtimes.grammar import answer_pattern
from quorum.runtimes.kv_cache import kv_bytes_per_token
from quorum.runtimes.options import TensorRtLlmOptions
from quorum.runtimes.peft_adapter import PeftAdapter, adapters_of
from quorum_contract import Status

logger = logging.getLogger(__name__)

GIB = 2**30
_SHUTDOWN_S = 20.0
# Variables of mpirun and the like: an LLM that starts its own workers must not join another MPI job.
_MPI_JOB = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_orte_", "ORTE_", "PMIX_", "PMI_")


class TensorRtLlmRuntime:
    """Answers by ``LLM.generate_async``, which batches all questions in flight."""

    def __init__(self, settings: RuntimeSettings[TensorRtLlmOptions]) -> None:
        options = settings.options
        self._member = settings.member
        self._limits = _limits(options)
        self._max_tokens, self._guided, self._scores = options.max_tokens, options.guided, options.scores
        # A folder, or a Hugging Face id.
        folder = settings.root / options.model
        model = str(folder.resolve()) if folder.is_dir() else options.model
        if folder.is_dir() and options.revision:
            raise settings.error(
                f"revision: {options.revision} is of a Hugging Face id, and {folder} is a folder; leave it"
                " out, or name the id in `model`"
            )
        adapters = adapters_of(settings)
        self._host = _Host.of(model, options, list(adapters.values()))
        try:
            # Imported late, as TensorRT-LLM is.
            from quorum.runtimes.chat import ChatTokenizer, further_ends
            from quorum.runtimes.offsets import TokenEnds

            self._adapters = {
                folder: self._host.adapter(adapters[folder]) for folder in options.adapters_used if folder
            }
            self._tokenizer = ChatTokenizer(model, options.chat, options.revision)
            # The library ends an answer at the tokenizer's end token alone.
            self._stops = further_ends(self._tokenizer, model, revision=options.revision) or None
            self._ends = TokenEnds(self._tokenizer.decode_all)
        except BaseException:
            self._host.release()
            raise
        self._live: set[Future[None]] = set()

    def submit(self, question: Question, done: Done) -> None:
        """Tokenise and pass the question to the LLM; one that is longer than it takes abstains.

        An answer may take what its prompt leaves of ``max_seq_len``: the library cuts ``max_tokens`` to it.
        """
        tokens = self._tokenizer.encode(question.prompt)
        for limit, most in self._limits.items():
            if len(tokens) > most:
                logger.warning(
                    "member %s: a prompt of %d tokens is too long for %s", self._member, len(tokens), limit
                )
                done(Status.ERROR)
                return
        api = self._host.api
        guide = api.GuidedDecodingParams(regex=answer_pattern(question.schema)) if self._guided else None
        parameters = api.SamplingParams(
            max_tokens=self._max_tokens,
            stop_token_ids=self._stops,
            top_k=1,
            guided_decoding=guide,
            logprobs=1 if self._scores else None,
        )
        answer = self._answer(question, tokens, parameters, done)
        work = asyncio.run_coroutine_threadsafe(answer, self._host.loop)
        self._live.add(work)
        work.add_done_callback(self._live.discard)

    @property
    def prompt_tokens(self) -> tuple[int, int]:
        """Prompt tokens from the KV cache, and all prompt tokens, of all members of this LLM."""
        return self._host.reused, self._host.prompt_tokens

    def close(self) -> None:
        """Abort questions in flight; the last member of a process also shuts the LLM down."""
        for work in list(self._live):
            work.cancel()
        self._host.release()

    async def _answer(self, question: Question, tokens: list[int], parameters: Any, done: Done) -> None:
        reply: Reply = Status.ERROR
        try:
            reply = await self._generate(question, tokens, parameters)
        except TimeoutError:
            reply = Status.TIMEOUT
        except asyncio.CancelledError:
            return
        except Exception:
            logger.exception("member %s: generation failed", self._member)
        done(reply)

    async def _generate(self, question: Question, tokens: list[int], parameters: Any) -> Reply:
        left_s = question.left_s
        if left_s <= 0:
            return Status.TIMEOUT
        # An adapter that is not loaded must not mean the LLM without one.
        lora = None if question.adapter is None else self._adapters[question.adapter]
        result = self._host.llm.generate_async(inputs=tokens, sampling_params=parameters, lora_request=lora)
        try:
            async with asyncio.timeout(left_s) as limit:
                question.cancellation.when_cancelled(partial(self._end_soon, limit))
                await result.aresult()
        except BaseException:
            # Free its place in the batch.
            with contextlib.suppress(Exception):
                result.abort()
            raise
        answer = result.outputs[0]
        # Present since 1.1 but not part of the committed API.
        cached = getattr(result, "cached_tokens", 0) or 0
        self._host.reused += cached
        self._host.prompt_tokens += len(tokens)
        if answer.finish_reason in ("timeout", "cancelled"):
            return Status.TIMEOUT
        usage = Usage(len(tokens), len(answer.token_ids or ()), cached)
        return self._generated(answer)._replace(usage=usage)

    def _end_soon(self, limit: asyncio.Timeout) -> None:
        self._host.loop.call_soon_threadsafe(_end_now, limit)

    def _generated(self, answer: Any) -> Generated:
        text, tokens = answer.text, answer.token_ids or []
        if not self._scores or len(answer.logprobs or ()) < len(tokens):
            return Generated(text)
        # There is one more where an end token was cut off.
        log_probs = [_log_prob_of(*pair) for pair in zip(tokens, answer.logprobs, strict=False)]
        return Generated(text, self._ends.find(tokens, text), log_probs)


def _end_now(limit: asyncio.Timeout) -> None:
    # It has ended already.
    with contextlib.suppress(RuntimeError):
        limit.reschedule(0)


def _limits(options: TensorRtLlmOptions) -> dict[str, int]:
    """Option with its value, for messages -> tokens of the longest prompt that the LLM takes."""
    limits = {f"max_num_tokens {options.max_num_tokens}": options.max_num_tokens}
    if options.max_seq_len is not None:
        limits[f"max_seq_len {options.max_seq_len}, which is for a question with its answer"] = (
            options.max_seq_len - 1
        )
    return limits


def _log_prob_of(token: int, known: Any) -> float:
    """The token's log-probability, given alone or in a table of the likeliest tokens; nan: not there."""
    found = known.get(token) if isinstance(known, dict) else known
    log_prob = getattr(found, "logprob", found)
    return float(log_prob) if isinstance(log_prob, int | float) else math.nan


class _Host:
    """An LLM of this process and the event loop of its requests, shared by its members."""

    _open: ClassVar[dict[str, _Host]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: str, options: TensorRtLlmOptions, loras: list[PeftAdapter]) -> None:
        self._key, self.members = key, 0
        self._adapters: dict[str, Any] = {}
        self.prompt_tokens = self.reused = 0
        self.api, keywords = _arguments(key, options, loras)
        logger.info("loading %s: %s", key, {k: v for k, v in keywords.items() if k != "model"})
        self.llm = self.api.LLM(**keywords)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="quorum-trtllm", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, key: str, options: TensorRtLlmOptions, loras: list[PeftAdapter]) -> _Host:
        """The LLM of a model, loaded for its first member."""
        with cls._lock:
            host = cls._open.get(key) or cls(key, options, loras)
            cls._open[key] = host
            host.members += 1
            return host

    def release(self) -> None:
        """Remove a member; with the last, shut the LLM down."""
        with self._lock:
            self.members -= 1
            if self.members:
                return
            del self._open[self._key]
        # An LLM that hangs must not hold the unload of its model.
        stopper = threading.Thread(target=self.llm.shutdown, name="quorum-trtllm-stop", daemon=True)
        stopper.start()
        stopper.join(_SHUTDOWN_S)
        if stopper.is_alive():
            logger.warning("%s: still not shut down after %.0f s; left alone", self._key, _SHUTDOWN_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        # A call into the LLM that never returns blocks the loop too.
        self._thread.join(_SHUTDOWN_S)
        logger.info(
            "%s: %d of %d prompt tokens came from the cache", self._key, self.reused, self.prompt_tokens
        )

    def adapter(self, lora: PeftAdapter) -> Any:
        """The request object of an adapter; the same folder is the same adapter."""
        key = str(lora.path.resolve())
        if key not in self._adapters:
            self._adapters[key] = self.api.LoRARequest(
                lora_name=lora.name, lora_int_id=len(self._adapters) + 1, lora_path=key
            )
        return self._adapters[key]


def _import_api(has_adapters: bool) -> Any:
    """The used classes of TensorRT-LLM, imported late: the import takes seconds and needs a GPU.

    ``LoraConfig`` is imported for adapters only, from where every version from 1.0 to 1.4 binds it: the
    module that defines it has changed twice.
    """
    for name in [name for name in os.environ if name.startswith(_MPI_JOB)]:
        del os.environ[name]
    try:
        from tensorrt_llm import LLM, SamplingParams
        from tensorrt_llm.executor import LoRARequest
        from tensorrt_llm.llmapi import GuidedDecodingParams, KvCacheConfig
    except ImportError as error:
        raise RuntimeConfigError(
            f"runtime tensorrt_llm: TensorRT-LLM cannot be imported here ({error}); run inside a Triton"
            " container that carries it (docs/guides/gpu.md), or put `runtime: openvino` for a CPU"
        ) from error
    lora_config: Any = None
    if has_adapters:
        try:
            from tensorrt_llm.llmapi import llm_args

            lora_config = llm_args.LoraConfig
        except (ImportError, AttributeError) as error:
            raise RuntimeConfigError(
                f"runtime tensorrt_llm: this TensorRT-LLM has no LoraConfig ({error}), which adapters need;"
                " use a version from 1.0 to 1.4, or leave `lora` out"
            ) from error
    return SimpleNamespace(
        LLM=LLM,
        SamplingParams=SamplingParams,
        LoRARequest=LoRARequest,
        GuidedDecodingParams=GuidedDecodingParams,
        KvCacheConfig=KvCacheConfig,
        LoraConfig=lora_config,
    )


def checkpoint_kv_bytes(model: str, tensor_parallel: int, revision: str | None = None) -> int:
    """KV cache bytes per token of a checkpoint, a folder or a Hugging Face id, on each GPU.

    A limit in bytes alone has no effect: 1.2 sizes a cache without sliding windows by tokens before it reads
    that limit (``KvCacheCreator.configure_kv_cache_capacity`` in
    ``tensorrt_llm/_torch/pyexecutor/_util.py``; so reviewed in its pull request 5933).
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, revision=revision or "main")
    heads = config.num_attention_heads
    quantised = Path(model) / "hf_quant_config.json"
    stored = json.loads(quantised.read_text("utf-8")) if quantised.is_file() else {}
    is_fp8 = stored.get("quantization", {}).get("kv_cache_quant_algo") == "FP8"
    return kv_bytes_per_token(
        layers=config.num_hidden_layers,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        tensor_parallel=tensor_parallel,
        bytes_each=1 if is_fp8 else 2,
    )


def _arguments(
    model: str, options: TensorRtLlmOptions, loras: list[PeftAdapter]
) -> tuple[Any, dict[str, Any]]:
    """Arguments of :class:`tensorrt_llm.LLM`."""
    if options.gpus:
        # Before CUDA is initialised; workers inherit the setting.
        devices = ",".join(map(str, options.gpus))
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["TRTLLM_VISIBLE_DEVICES"] = devices
    api = _import_api(bool(loras))
    cache: dict[str, Any] = {"enable_block_reuse": True}
    if options.kv_cache_fraction is not None:
        cache["free_gpu_memory_fraction"] = options.kv_cache_fraction
    if options.kv_cache_gib is not None:
        limit = int(options.kv_cache_gib * GIB)
        cache["max_gpu_total_bytes"] = limit
        cache["max_tokens"] = limit // checkpoint_kv_bytes(model, options.tensor_parallel, options.revision)
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": options.dtype,
        "tensor_parallel_size": options.tensor_parallel,
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens,
        "kv_cache_config": api.KvCacheConfig(**cache),
        "guided_decoding_backend": "xgrammar",
    }
    if options.max_seq_len is not None:
        arguments["max_seq_len"] = options.max_seq_len
    if options.revision is not None:
        arguments["revision"] = arguments["tokenizer_revision"] = options.revision
    if loras:
        folders = {lora.path.resolve() for lora in loras}
        arguments["lora_config"] = api.LoraConfig(
            max_lora_rank=max(lora.rank for lora in loras),
            lora_target_modules=sorted(set().union(*(lora.modules for lora in loras))),
            max_loras=len(folders),
            max_cpu_loras=len(folders),
        )
    return api, arguments
