# SPDX-License-Identifier: Apache-2.0
"""Define the options of each runtime with their defaults, without importing any runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from quorum.runtimes.encoder_options import EncoderOptions as EncoderOptions
from quorum.runtimes.lookup_options import CatalogueOptions, ReplayOptions
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.option_base import (
    Count,
    CountOrZero,
    Existing,
    Gib,
    Hint,
    IsolatedOptions,
    OptionError,
    Options,
    convert,
)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantisation = Literal["fp8", "int8_sq", "int8_wo", "int4_wo", "int4_awq", "w4a8_awq", "nvfp4"]
Parallel = Annotated[int, msgspec.Meta(ge=1, le=1024), Hint("a number of GPUs", "it is at least 1")]
GpuShare = Annotated[float, msgspec.Meta(gt=0, le=1), Hint("a share of a GPU", "it lies between 0 and 1")]


_SAVE = "make it with `quorum tune`, or save an adapter there with PEFT's save_pretrained"
_SAVED = ("adapter_config.json",)
_Adapters = Annotated[
    dict[str, str], Existing("a mapping of attributes to folders of adapters", fix=_SAVE, holds=_SAVED)
]


class AdaptedOptions(IsolatedOptions, frozen=True, kw_only=True):
    """Options of runtimes that apply LoRA adapters, with those of :class:`IsolatedOptions`.

    Attributes:
        lora: Folder of a PEFT adapter: it answers all attributes that ``adapters`` does not name.
        adapters: Attribute -> folder of the PEFT adapter that answers it. A question about attributes of
            several adapters is asked in parts (:mod:`quorum.runtimes.by_adapter`).
        shared: Whether members on the same ``model``, with the same options of it, hold it once, in one
            process; false: this one has a process and a model of its own.
    """

    lora: Annotated[str | None, Existing(fix=_SAVE, holds=_SAVED)] = None
    adapters: _Adapters = msgspec.field(default_factory=dict)
    shared: bool = True

    @property
    def adapter_by_attribute(self) -> Mapping[str, str]:
        """Attribute -> folder of its adapter."""
        return self.adapters

    @property
    def usual_adapter(self) -> str | None:
        """Folder of the adapter of all other attributes."""
        return self.lora


class OpenVinoOptions(IsolatedOptions, frozen=True, kw_only=True):
    """Options of the runtime ``openvino``, with those of :class:`IsolatedOptions`.

    Attributes:
        model: Folder that ``quorum build`` made.
        lora: Folder of a PEFT adapter that is applied to all questions.
        threads: CPU threads; 0: one per core.
        max_new_tokens: Longest answer.
        kv_cache_blocks: Size of the KV cache in blocks of 32 tokens; 0: it grows.
        precision: ``f32`` for the same answers on every CPU, ``bf16`` for speed on CPUs that have it.
        chat: Whether to apply the chat template; None: if the tokenizer has one.
        prefix_caching: Whether questions share the KV cache of common prefixes.
        scores: Whether votes come with the log-probability of their values.
    """

    runtime: ClassVar[str] = "openvino"
    served_by: ClassVar[str] = "quorum.runtimes.openvino:OpenVinoRuntime"
    extra: ClassVar[str] = "openvino"
    refused: ClassVar[Mapping[str, str]] = {
        "adapters": "OpenVINO GenAI applies one adapter to all questions of a batch; give one that was tuned"
        " on all attributes, by `lora`, or take runtime `hf`, which has `adapters`",
    }

    model: Annotated[
        str,
        Existing(
            fix="make it with `quorum build CHECKPOINT OUT`",
            holds=("openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml"),
        ),
    ]
    lora: Annotated[str | None, Existing(fix=_SAVE, holds=(*_SAVED, "adapter_model.safetensors"))] = None
    threads: CountOrZero = 1
    max_new_tokens: Count = 256
    kv_cache_blocks: CountOrZero = 256
    precision: Literal["f32", "bf16"] = "f32"
    chat: bool | None = None
    prefix_caching: bool = True
    scores: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """OpenVINO GenAI, and what reads its tokenizers."""
        return ("openvino_genai", "openvino_tokenizers")

    @property
    def usual_adapter(self) -> str | None:
        """Folder of its adapter."""
        return self.lora


class HfOptions(AdaptedOptions, frozen=True, kw_only=True):
    """Options of the runtime ``hf``, with those of :class:`AdaptedOptions`.

    Attributes:
        model: Folder of a Hugging Face checkpoint.
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
        scores: Whether votes come with the log-probability of their values.
    """

    runtime: ClassVar[str] = "hf"
    served_by: ClassVar[str] = "quorum.runtimes.hf:HfRuntime"
    extra: ClassVar[str] = "hf"

    model: Annotated[
        str,
        Existing(
            fix="save a checkpoint there: `hf download NAME --local-dir FOLDER`, or save_pretrained",
            holds=("config.json",),
        ),
    ]
    device: str = "auto"
    dtype: Dtype = "auto"
    threads: Count = 1
    max_new_tokens: Count = 256
    max_batch: Count = 32
    max_seq_len: Count | None = None
    batching: Literal["dynamic", "continuous"] = "dynamic"
    kv_cache_tokens: Count = 16384
    guided: bool = True
    chat: bool | None = None
    scores: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """PyTorch, Transformers, and what adapters and guided answers take."""
        adapted, guided = ("peft",) * (self.adapters_used != (None,)), ("llguidance",) * self.guided
        return ("torch", "transformers", *adapted, *guided)

    @property
    def adapters_at_once(self) -> bool:
        """Whether questions of several adapters can be answered side by side."""
        return self.batching == "dynamic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.adapters_used) > 1 and not self.adapters_at_once:
            raise OptionError(
                "batching",
                "continuous batches cannot mix adapters, which PEFT applies to rows of a batch; set"
                " `batching: dynamic`, or give one adapter, by `lora`, without `adapters`",
            )
        if self.max_seq_len is not None and self.max_seq_len <= self.max_new_tokens:
            raise OptionError(
                "max_seq_len",
                f"{self.max_seq_len} tokens are for a question with its answer, and the answer alone may take"
                f" {self.max_new_tokens} (max_new_tokens); make one larger or the other smaller",
            )


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter.

    Attributes:
        path: Its PEFT folder.
        name: Its name; None: the folder's.
        rank: Its rank, if it must be this one.
    """

    path: str
    name: str | None = None
    rank: Count | None = None

    @property
    def title(self) -> str:
        """Its name, by default that of its folder."""
        return self.name or Path(self.path).name


class GpuOptions(Options, frozen=True, kw_only=True):
    """Options that both runtimes of TensorRT-LLM have; the last three as in :class:`HfOptions`.

    Attributes:
        dtype: Of the weights; ``auto``: the checkpoint's.
        tensor_parallel: Number of GPUs.
        gpus: Their numbers; None: the first ones.
        lora: An adapter, applied to each question while the weights stay as they are.
        kv_cache_fraction: The KV cache's share of the memory free after loading.
        kv_cache_gib: Upper limit of the KV cache.
        max_batch_size: Questions answered at once.
        max_tokens: Longest answer.
        max_num_tokens: Tokens computed at once.
        max_seq_len: Tokens of a question with its answer; None: the model's.
        quantization: Of the weights, e.g. ``fp8``. An engine is built with it; with the LLM API the
            checkpoint decides, and only planning reads the option.
    """

    dtype: Dtype = "auto"
    tensor_parallel: Parallel = 1
    gpus: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, le=1023)], ...] | None,
        Hint("a list of different GPU numbers", "write it as in [0, 1]"),
    ] = None
    lora: Annotated[
        Lora | None, Hint("an adapter", "it has path, and may have name and rank (at least 1)")
    ] = None
    kv_cache_fraction: GpuShare | None = None
    kv_cache_gib: Gib | None = None
    max_batch_size: Count = 256
    max_tokens: Count = 256
    max_num_tokens: Count = 8192
    max_seq_len: Count | None = None
    quantization: str | None = None
    guided: bool = True
    chat: bool | None = None
    scores: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        parallel, gpus = self.tensor_parallel, self.gpus
        if gpus is not None and len(set(gpus)) != len(gpus):
            raise OptionError(
                "gpus", f"{list(gpus)} is not a list of different GPU numbers; write it as in [0, 1]"
            )
        if gpus is not None and len(gpus) != parallel:
            raise OptionError(
                "gpus",
                f"{list(gpus)} are {len(gpus)} GPUs, but tensor_parallel is {parallel}; set the same in both",
            )

    @property
    def usual_adapter(self) -> str | None:
        """Folder of its adapter."""
        return self.lora.path if self.lora else None

    @property
    def devices(self) -> tuple[int, ...]:
        """Numbers of its GPUs."""
        return self.gpus or tuple(range(self.tensor_parallel))


class TensorRtLlmOptions(GpuOptions, frozen=True, kw_only=True):
    """Options of the runtime ``tensorrt_llm``; ``memory_limit_gib`` as in :class:`IsolatedOptions`.

    Attributes:
        model: Folder of a checkpoint, or a Hugging Face id.
        revision: Commit, branch or tag of that id; None: its newest. A commit always gives the same weights.
        adapters: As in :class:`AdaptedOptions`; all are in the memory of one LLM.
    """

    runtime: ClassVar[str] = "tensorrt_llm"
    served_by: ClassVar[str] = "quorum.runtimes.tensorrt_llm:TensorRtLlmRuntime"

    model: Annotated[str, Hint("text", "a checkpoint's folder, or its Hugging Face id")]
    revision: Annotated[
        str | None, Hint("text", "a commit, branch or tag of the Hugging Face id, in quotes")
    ] = None
    adapters: _Adapters = msgspec.field(default_factory=dict)
    memory_limit_gib: Gib | None = None

    @property
    def isolated(self) -> bool:
        """True, as for every LLM."""
        return True

    @property
    def adapter_by_attribute(self) -> Mapping[str, str]:
        """Attribute -> folder of its adapter."""
        return self.adapters


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
    quantization: Quantisation | None = None

    @property
    def llm(self) -> str:
        """The checkpoint, or the engine where none is named."""
        return self.model or self.engine


RUNTIMES: Mapping[str, type[Options]] = MappingProxyType(
    {
        options.runtime: options
        for options in (
            OpenVinoOptions, HfOptions, TensorRtLlmOptions, EngineOptions, ReplayOptions, CatalogueOptions,
            EncoderOptions, OpenAiOptions,
        )
    }
)  # fmt: skip
"""Runtime -> its options."""

_OF_MEMBERS = frozenset({"lora", "guided", "chat", "scores"})
SHARED = MappingProxyType(
    {
        "hf": _OF_MEMBERS | {"adapters", "max_new_tokens"},
        "tensorrt_llm": _OF_MEMBERS | {"adapters", "max_tokens"},
    }
)
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
