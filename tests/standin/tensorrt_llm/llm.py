# SPDX-License-Identifier: Apache-2.0
"""The class ``LLM`` and its results."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import openvino_genai as genai

from ._strict import check
from .executor import LoRARequest, RequestError
from .llmapi.llm_args import KvCacheConfig, LoraConfig
from .sampling_params import SamplingParams

_BLOCK = 32
_STEP_TOKENS = 256
_PROMPT_TOKENS = 8192
# Hugging Face's name of a module -> TensorRT-LLM's: the defaults for adapters of the models that are served.
_MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_dense",
    "gate_proj": "mlp_h_to_4h",
    "down_proj": "mlp_4h_to_h",
    "up_proj": "mlp_gate",
}
_ATTENTION = {"attn_q", "attn_k", "attn_v"}


@dataclass(slots=True)
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] | None = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list | None = field(default_factory=list)
    prompt_logprobs: list | None = field(default_factory=list)
    finish_reason: Literal["stop", "length", "timeout", "cancelled"] | None = None
    stop_reason: int | str | None = None
    generation_logits: Any = None
    disaggregated_params: Any = None


@dataclass(slots=True)
class Logprob:
    logprob: float
    rank: int | None = None


class RequestOutput:
    """What ``generate_async`` gives; made by the LLM only."""

    def __init__(self) -> None:
        raise RuntimeError("RequestOutput is made by the LLM only")

    @classmethod
    def _made(cls, llm: LLM, number: int, tokens: list[int], cached: int) -> RequestOutput:
        self = cls.__new__(cls)
        self.request_id, self.prompt_token_ids, self.prompt = number, tokens, None
        self.outputs, self.context_logits = [CompletionOutput(0)], None
        self.cached_tokens = cached
        self.finished = False
        self._llm, self._aborted, self._error = llm, False, None
        self._stops: list[int] = []
        self._done = threading.Event()
        try:
            self._loop: Any = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._adone = asyncio.Event() if self._loop else None
        return self

    def abort(self) -> None:
        self._llm._log("abort", id=self.request_id)
        self._aborted = True

    def aborted(self) -> bool:
        return self._aborted

    def result(self, timeout: float | None = None) -> RequestOutput:
        if not self._done.wait(timeout):
            raise TimeoutError
        return self._outcome()

    async def aresult(self) -> RequestOutput:
        assert self._adone is not None, "The asyncio event loop was not present during initialization"
        await self._adone.wait()
        return self._outcome()

    def _outcome(self) -> RequestOutput:
        if self._error:
            raise self._error
        return self

    def _finish(self, reason: str, error: Exception | None = None) -> None:
        self.outputs[0].finish_reason, self._error = reason, error
        self.finished = True
        self._done.set()
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._adone.set)


class LLM:
    def __init__(
        self,
        model: str | Path,
        tokenizer: Any = None,
        tokenizer_mode: Literal["auto", "slow"] = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        said = {name: value for name, value in locals().items() if name not in ("self", "kwargs")} | kwargs
        hints = typing.get_type_hints(LLM.__init__) | KEYWORDS
        for name, value in said.items():
            if name not in hints:
                raise ValueError(f"Failed to parse the arguments for the LLM constructor: unknown {name!r}")
            check(f"LLM.{name}", value, hints[name])
        self._folder = Path(model)
        if not self._folder.is_dir():
            raise OSError(f"{model} is neither a folder nor a model that can be fetched without a network")
        self._guided = kwargs.get("guided_decoding_backend")
        self._lora: LoraConfig | None = kwargs.get("lora_config")
        if self._lora and not self._lora.lora_dir:
            assert self._lora.lora_target_modules, "Expecting at least one lora target module"
        self._most = kwargs.get("max_seq_len") or 1024
        self._chunked = bool(kwargs.get("enable_chunked_prefill"))
        self._longest_prompt = kwargs.get("max_num_tokens") or _PROMPT_TOKENS
        shown = {k: getattr(v, "__dict__", v) for k, v in said.items() if v is not None}
        self._log(
            "construct", arguments={k: v if not isinstance(v, Path) else str(v) for k, v in shown.items()}
        )
        if message := self._faults().get("construct"):
            raise RuntimeError(message)
        self._open(int(kwargs.get("max_batch_size") or 64))

    def _open(self, batch: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks, scheduler.max_num_seqs = 256, batch
        scheduler.max_num_batched_tokens, scheduler.dynamic_split_fuse = _STEP_TOKENS, True
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "INFERENCE_NUM_THREADS": 1,
        }
        self._pipeline: Any = genai.ContinuousBatchingPipeline(
            str(self._folder), scheduler, "CPU", properties
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._live: list[tuple[RequestOutput, Any]] = []
        self._inbox: list[tuple[RequestOutput, Any]] = []
        self._seen: set[tuple[int, ...]] = set()
        self._numbers, self._running, self._most_at_once = 0, True, 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def generate_async(
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        lora_request: LoRARequest | None = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
    ) -> RequestOutput:
        check("generate_async.inputs", inputs, list[int])
        check("generate_async.sampling_params", sampling_params, SamplingParams | None)
        check("generate_async.lora_request", lora_request, LoRARequest | None)
        check("generate_async.streaming", streaming, bool)
        if not self._running:
            raise RuntimeError("LLM is shutting down")
        if message := self._faults().get("generate"):
            raise RuntimeError(message)
        parameters = sampling_params or SamplingParams()
        if not self._chunked and len(inputs) > self._longest_prompt:
            raise ValueError(
                f"The sum of prompt length ({len(inputs)}), query length (0) should not exceed max_num_tokens"
                f" ({self._longest_prompt})"
            )
        # What is left of max_seq_len cuts max_tokens, with a warning.
        longest = min(parameters.max_tokens, self._most - len(inputs))
        refusal = self._refusal(lora_request)
        if longest <= 0:
            refusal = f"`default_max_tokens` ({longest}) must be greater than 0, max_seq_len is {self._most}"
        self._numbers += 1
        result = RequestOutput._made(self, self._numbers, list(inputs), self._reused(inputs))
        result._stops = [] if parameters.include_stop_str_in_output else parameters.stop_token_ids or []
        adapter = lora_request.lora_name if lora_request else None
        self._log(
            "generate", id=self._numbers, tokens=len(inputs), cached=result.cached_tokens, lora=adapter,
            prompt=self._tokenizer.decode(list(inputs)), max_tokens=longest, refused=refusal,
            stop_token_ids=parameters.stop_token_ids,
        )  # fmt: skip
        if refusal:
            result._finish("cancelled", RequestError(refusal))
            return result
        config = self._generation(parameters, longest)
        with self._wake:
            self._inbox.append((result, config))
            self._wake.notify()
        return result

    def shutdown(self) -> None:
        self._log("shutdown", at_once=self._most_at_once)
        with self._wake:
            self._running = False
            self._wake.notify()
        if not self._faults().get("hang"):
            self._thread.join()

    def _refusal(self, request: LoRARequest | None) -> str | None:
        """Why the executor refuses an adapter. Of q, k and v it gives those that the adapter lacks zeros."""
        if request is None:
            return None
        if self._lora is None:
            return "a LoRA was requested, but the LLM was made without lora_config"
        config = json.loads((Path(request.lora_path) / "adapter_config.json").read_text())
        if config["r"] > self._lora.max_lora_rank:
            return f"LoRA rank {config['r']} > max_lora_rank {self._lora.max_lora_rank}"
        modules = {_MODULES[name] for name in config["target_modules"]}
        modules |= _ATTENTION if modules & _ATTENTION else set()
        missing = sorted(modules - set(self._lora.lora_target_modules))
        return f"lora modules {missing} are not among lora_target_modules" if missing else None

    def _generation(self, parameters: SamplingParams, longest: int) -> Any:
        if parameters.top_k not in (None, 1) or parameters.temperature is not None:
            raise NotImplementedError("the stand-in is greedy only")
        config = genai.GenerationConfig(max_new_tokens=longest, do_sample=False, apply_chat_template=False)
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        # The tokenizer's end token alone ends an answer, whatever generation_config says.
        config.stop_token_ids = {config.eos_token_id, *(parameters.stop_token_ids or ())}
        if parameters.logprobs not in (None, 1):
            raise NotImplementedError("the stand-in gives the log-probability of the token that it takes")
        config.logprobs = parameters.logprobs or 0
        guide = parameters.guided_decoding
        if guide is not None:
            if self._guided is None:
                raise ValueError("GuidedDecodingParams, but guided_decoding_backend is not set")
            if guide.regex is None:
                raise NotImplementedError("the stand-in guides by regular expressions only")
            config.structured_output_config = genai.StructuredOutputConfig(regex=guide.regex)
        return config

    def _reused(self, tokens: list[int]) -> int:
        """Prompt tokens in whole blocks that an earlier prompt began with too."""
        found = 0
        for end in range(_BLOCK, len(tokens), _BLOCK):
            block = tuple(tokens[:end])
            if block in self._seen:
                found = end
            self._seen.add(block)
        return found

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._running and not self._inbox and not self._live:
                    self._wake.wait()
                if not self._running:
                    return
                arrived, self._inbox = self._inbox, []
            for result, config in arrived:
                ids = openvino.Tensor(np.array([result.prompt_token_ids], np.int64))
                self._live.append((result, self._pipeline.add_request(result.request_id, ids, config)))
            self._most_at_once = max(self._most_at_once, len(self._live))
            if self._faults().get("hang"):
                time.sleep(0.01)
            else:
                self._pipeline.step()
            self._live = [
                (result, handle) for result, handle in self._live if not self._settle(result, handle)
            ]

    def _settle(self, result: RequestOutput, handle: Any) -> bool:
        if result.aborted():
            handle.cancel()
            self._log("cancelled", id=result.request_id)
            result._finish("cancelled")
            return True
        if handle.get_status() == genai.GenerationStatus.RUNNING:
            return False
        if handle.get_status() == genai.GenerationStatus.FINISHED:
            answer = handle.read_all()[0]
            result.outputs[0].token_ids = list(answer.generated_ids)
            if any(answer.generated_log_probs):
                pairs = zip(answer.generated_ids, answer.generated_log_probs, strict=True)
                result.outputs[0].logprobs = [{token: Logprob(known, 1)} for token, known in pairs]
            stopped = answer.finish_reason == genai.GenerationFinishReason.STOP
            if stopped and answer.generated_ids[-1] in result._stops:
                # The library cuts it off the tokens, and not off the log-probabilities.
                del result.outputs[0].token_ids[-1]
            result.outputs[0].text = self._tokenizer.decode(result.outputs[0].token_ids)
            result._finish("stop" if stopped else "length")
        else:
            result._finish("length", RequestError("the request does not fit the KV cache"))
        return True

    def _faults(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / "standin.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def _log(self, event: str, **what: Any) -> None:
        with (self._folder / "standin.jsonl").open("a") as log:
            log.write(json.dumps({"event": event, **what}, default=str) + "\n")


KEYWORDS: dict[str, Any] = {
    "pipeline_parallel_size": int,
    "context_parallel_size": int,
    "moe_tensor_parallel_size": int | None,
    "moe_expert_parallel_size": int | None,
    "enable_lora": bool,
    "lora_config": LoraConfig | None,
    "batched_logits_processor": Any,
    "guided_decoding_backend": Literal["xgrammar", "llguidance"] | None,
    "speculative_config": Any,
    "max_batch_size": int | None,
    "max_input_len": int | None,
    "max_seq_len": int | None,
    "max_beam_width": int | None,
    "max_num_tokens": int | None,
    "load_format": Any,
    "enable_chunked_prefill": bool,
    "kv_cache_config": KvCacheConfig,
    "stream_interval": int,
}
"""What else the constructor takes: the committed part of the API."""

assert not set(KEYWORDS) & set(inspect.signature(LLM.__init__).parameters)
