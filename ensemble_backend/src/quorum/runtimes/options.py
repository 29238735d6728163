# SPDX-License-Identifier: Apache-2.0
"""Define the options of each runtime with their defaults, without importing any runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from quorum.runtimes.option_base import Existing, Hint, OptionError, Options, check_sizes, convert


class OpenVinoOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``openvino``.

    Attributes:
        model: Folder that ``quorum build`` made.
        threads: CPU threads.
        max_new_tokens: Longest answer.
        kv_cache_blocks: Size of the KV cache in blocks of 32 tokens.
        precision: ``f32`` for the same answers on every CPU, ``bf16`` for speed on CPUs that have it.
        chat: Whether to apply the chat template; None: if the tokenizer has one.
        prefix_caching: Whether questions share the KV cache of common prefixes.
    """

    runtime: ClassVar[str] = "openvino"
    served_by: ClassVar[str] = "quorum.runtimes.openvino:OpenVinoRuntime"

    model: Annotated[
        str,
        Existing(
            fix="make it with `quorum build CHECKPOINT OUT`",
            holds=("openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml"),
        ),
    ]
    threads: int = 1
    max_new_tokens: int = 256
    kv_cache_blocks: int = 256
    precision: Literal["f32", "bf16"] = "f32"
    chat: bool | None = None
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        check_sizes(max_new_tokens=self.max_new_tokens)

    @property
    def llm(self) -> str:
        """The model's folder."""
        return self.model


class HfOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``hf``.

    Attributes:
        model: Folder of a Hugging Face checkpoint.
        lora: Folder of a PEFT adapter, merged into the weights at start.
        device: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Of the weights; ``auto``: the checkpoint's on a GPU, ``float32`` on a CPU.
        threads: CPU threads.
        max_new_tokens: Longest answer.
        max_batch: Questions answered at once.
        max_seq_len: Tokens of a question with its answer; longer ones abstain; None: the model's.
        batching: ``dynamic``, or ``continuous`` with a KV cache of ``kv_cache_tokens``.
        kv_cache_tokens: Size of that cache.
        guided: Whether answers keep to the catalogue's grammar.
        chat: Whether to apply the chat template; None: if the tokenizer has one.
    """

    runtime: ClassVar[str] = "hf"
    served_by: ClassVar[str] = "quorum.runtimes.hf:HfRuntime"
    install: ClassVar[str] = "run `make setup-hf`"

    model: Annotated[
        str,
        Existing(
            fix="save a checkpoint there: `hf download NAME --local-dir FOLDER`, or save_pretrained",
            holds=("config.json",),
        ),
    ]
    lora: Annotated[
        str | None,
        Existing(fix="save an adapter there with PEFT's save_pretrained", holds=("adapter_config.json",)),
    ] = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int = 1
    max_new_tokens: int = 256
    max_batch: int = 32
    max_seq_len: int | None = None
    batching: Literal["dynamic", "continuous"] = "dynamic"
    kv_cache_tokens: int = 16384
    guided: bool = True
    chat: bool | None = None

    def __post_init__(self) -> None:
        check_sizes(
            max_batch=self.max_batch,
            max_seq_len=self.max_seq_len,
            max_new_tokens=self.max_new_tokens,
            kv_cache_tokens=self.kv_cache_tokens,
        )
        if self.max_seq_len is not None and self.max_seq_len <= self.max_new_tokens:
            raise OptionError(
                "max_seq_len",
                f"{self.max_seq_len} tokens are for a question with its answer, and the answer alone may take"
                f" {self.max_new_tokens} (max_new_tokens); make one larger or the other smaller",
            )

    @property
    def llm(self) -> str:
        """The checkpoint's folder."""
        return self.model


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter of a TensorRT-LLM member.

    Attributes:
        path: Folder of a PEFT adapter.
        name: Its name; None: that of its folder.
        rank: Its rank; None: that of the adapter.
    """

    path: str
    name: str | None = None
    rank: int | None = None

    @property
    def title(self) -> str:
        """Its name, by default that of its folder."""
        return self.name or Path(self.path).name


class GpuOptions(Options, frozen=True, kw_only=True):
    """Options that both runtimes of TensorRT-LLM have.

    Attributes:
        dtype: Of the weights; ``auto``: the checkpoint's.
        tensor_parallel: Number of GPUs.
        gpus: Their numbers; None: the first ones.
        lora: An adapter.
        kv_cache_fraction: The KV cache's share of the memory free after loading.
        kv_cache_gib: Upper limit of the KV cache.
        max_batch_size: Questions answered at once.
        max_tokens: Longest answer.
        max_num_tokens: Tokens computed at once.
        max_seq_len: Tokens of a question with its answer; None: the model's.
        quantization: Of the weights, e.g. ``fp8``. An engine is built with it; with the LLM API the
            checkpoint decides, and only planning reads the option.
        guided: Whether answers keep to the catalogue's grammar.
        chat: Whether to apply the chat template; None: if there is one.
    """

    dtype: str = "auto"
    tensor_parallel: int = 1
    gpus: Annotated[
        tuple[int, ...] | None, Hint("a list of different GPU numbers", "write it as in [0, 1]")
    ] = None
    lora: Annotated[Lora | None, Hint("an adapter", "it has path, and may have name and rank")] = None
    kv_cache_fraction: float | None = None
    kv_cache_gib: float | None = None
    max_batch_size: int = 256
    max_tokens: int = 256
    max_num_tokens: int = 8192
    max_seq_len: int | None = None
    quantization: str | None = None
    guided: bool = True
    chat: bool | None = None

    def __post_init__(self) -> None:
        check_sizes(max_seq_len=self.max_seq_len)
        parallel, gpus = self.tensor_parallel, self.gpus
        if parallel < 1:
            raise OptionError("tensor_parallel", f"{parallel} is not a number of GPUs; it is at least 1")
        if gpus is not None and (min(gpus, default=0) < 0 or len(set(gpus)) != len(gpus)):
            raise OptionError(
                "gpus", f"{list(gpus)} is not a list of different GPU numbers; write it as in [0, 1]"
            )
        if gpus is not None and len(gpus) != parallel:
            raise OptionError(
                "gpus",
                f"{list(gpus)} are {len(gpus)} GPUs, but tensor_parallel is {parallel}; set the same in both",
            )
        fraction, gib = self.kv_cache_fraction, self.kv_cache_gib
        if fraction is not None and not 0 < fraction <= 1:
            raise OptionError(
                "kv_cache_fraction", f"{fraction:g} is not a share of a GPU; it lies between 0 and 1"
            )
        if gib is not None and not 0 < gib < float("inf"):
            raise OptionError("kv_cache_gib", f"{gib:g} is not an amount of memory; it is more than 0")

    @property
    def devices(self) -> tuple[int, ...]:
        """Numbers of its GPUs."""
        return self.gpus or tuple(range(self.tensor_parallel))


class TensorRtLlmOptions(GpuOptions, frozen=True, kw_only=True):
    """Options of the runtime ``tensorrt_llm``.

    Attributes:
        model: Folder of a checkpoint, or its Hugging Face id.
    """

    runtime: ClassVar[str] = "tensorrt_llm"
    served_by: ClassVar[str] = "quorum.runtimes.tensorrt_llm:TensorRtLlmRuntime"

    model: Annotated[str, Hint("text", "a checkpoint's folder, or its Hugging Face id")]

    @property
    def llm(self) -> str:
        """The checkpoint."""
        return self.model


class EngineOptions(GpuOptions, frozen=True, kw_only=True):
    """Options of the runtime ``engine``.

    Attributes:
        engine: Folder that ``quorum build`` made.
        tokenizer: Folder with the tokenizer; None: ``model``.
        model: Folder of the checkpoint that the engine is built from.
    """

    runtime: ClassVar[str] = "engine"
    served_by: ClassVar[str] = "quorum.runtimes.engine:EngineRuntime"

    engine: Annotated[str, Existing(fix="make it: `quorum build MEMBER --spec FILE`")]
    tokenizer: Annotated[str | None, Existing(fix="name the folder that holds its tokenizer")] = None
    model: str | None = None

    @property
    def llm(self) -> str:
        """The checkpoint, or the engine where none is named."""
        return self.model or self.engine


class ReplayOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``replay``.

    Attributes:
        votes: Path of a votes table.
        recorded_as: Column to answer from; None: the member's name.
        latency_ms: Mean think time.
        latency_shape: Its distribution.
        fail_share: Share of questions, in [0, 1], that raise.
        hang_share: Share of questions, in [0, 1], that time out.
        seed: Of the draws.
    """

    runtime: ClassVar[str] = "replay"
    served_by: ClassVar[str] = "quorum.runtimes.replay:ReplayRuntime"

    votes: Annotated[str, Existing(fix="record one with `quorum extract FILE --votes`")]
    recorded_as: str | None = None
    latency_ms: float = 0.0
    latency_shape: Literal["exponential", "constant"] = "exponential"
    fail_share: float = 0.0
    hang_share: float = 0.0
    seed: int = 0


RUNTIMES: Mapping[str, type[Options]] = MappingProxyType(
    {
        options.runtime: options
        for options in (OpenVinoOptions, HfOptions, TensorRtLlmOptions, EngineOptions, ReplayOptions)
    }
)
"""Runtime -> its options."""

SHARED = MappingProxyType({"tensorrt_llm": frozenset({"lora", "max_tokens", "guided", "chat"})})
"""Runtimes whose members share an LLM in memory -> the options in which such members may differ."""


def read_options(runtime: str, given: Mapping[str, Any]) -> Options:
    """Check options of a runtime of :data:`RUNTIMES` and fill in defaults; null options count as left out.

    Files and folders are checked by :func:`quorum.runtimes.option_base.find_missing`.

    Raises:
        OptionError: An unknown runtime or option, a missing option, or an invalid value.
    """
    if runtime not in RUNTIMES:
        raise OptionError("runtime", f"unknown runtime {runtime!r}; use one of {', '.join(sorted(RUNTIMES))}")
    return convert(RUNTIMES[runtime], given)
