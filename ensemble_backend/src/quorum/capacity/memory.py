# SPDX-License-Identifier: Apache-2.0
"""Compute the GPU memory of an LLM: weights, runtime, KV cache and LoRA, each with its arithmetic.

TensorRT-LLM sizes its KV cache after the weights are loaded and a trial run with ``max_num_tokens`` tokens:
``(total - peak) * fraction``, where ``peak`` includes all *other* processes on that GPU at that moment
(``tensorrt_llm/_torch/pyexecutor/_util.py``, 1.x; the C++ runtime does the same with the memory free then).
An upper limit in bytes (``kv_cache_gib``) or tokens makes it the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from quorum.build.checkpoint import BuildError
from quorum.build.lora import read_adapter
from quorum.build.shapes import Shape, find_shape
from quorum.deployment.schema import MemberSpec
from quorum.hardware import GIB
from quorum.runtimes.kv_cache import kv_heads_on
from quorum.runtimes.option_base import Options
from quorum.runtimes.options import EngineOptions, GpuOptions, TensorRtLlmOptions

# Memory of a process on each GPU besides tensors: CUDA context, cuBLAS, CUDA graphs, NCCL. Llama-3-8B on an
# H100 held 1.79 GiB alone and 3.58 GiB on each of two (vLLM pull request 10511, 2024-12); TensorRT-LLM prints
# its own figure at start ("Memory used outside torch").
CONTEXT_BYTES = 2 * GIB
CONTEXT_BYTES_PARALLEL = 4 * GIB
# Applied to the peak of activations: residual and normed stream, gate, up and their product, in 16 bits; and
# FP32 logits with two copies for sampling. For Llama-3-8B, 8192 tokens and 256 questions that is 1.15 GiB,
# where the run above measured 1.26 GiB; the factor covers the difference and kernels' workspaces.
ACTIVATION_FACTOR = 1.25
# Share of the memory left after loading for the LoRA cache: PeftCacheConfig.device_cache_percent of the LLM
# API, lora_cache_gpu_memory_fraction of the C++ backend.
LORA_CACHE_SHARE: Mapping[type[GpuOptions], float] = {TensorRtLlmOptions: 0.02, EngineOptions: 0.05}
DEFAULT_FRACTION = 0.9

SomeOptions = TypeVar("SomeOptions", bound=Options)


@dataclass(frozen=True, slots=True)
class Changes:
    """Options to plan with instead of a member's own; ``None`` keeps the member's."""

    quantization: str | None = None
    kv_cache_gib: float | None = None
    max_num_tokens: int | None = None
    max_batch_size: int | None = None
    max_batch: int | None = None

    def apply(self, options: SomeOptions) -> SomeOptions:
        """Apply the changes that the options' runtime has; a cache's size replaces its fraction."""
        known = options.__struct_fields__
        changed = {key: value for key, value in asdict(self).items() if value is not None and key in known}
        if "kv_cache_gib" in changed:
            changed["kv_cache_fraction"] = None
        return msgspec.structs.replace(options, **changed)


UNCHANGED = Changes()


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one LLM on each of its GPUs, in bytes.

    Attributes:
        member: Name of its member, or names of those that share it.
        context: Outside of tensors.
        activations: Of the largest step.
        longest: Tokens of the longest question with its answer.
        batch: Maximum number of questions at once.
        arithmetic: Part -> how it was computed.
        lora_share: The LoRA cache's share of the memory left after loading.
        kv_fraction: The KV cache's share of the memory left after loading.
        kv_limit: Its upper limit; ``None`` for none.
        by_pytorch: Whether activations and KV cache are allocated as questions arrive (runtime ``hf``), and
            thus estimated; otherwise all is allocated at the start.
        kv_room: The KV cache of its full batch, if ``by_pytorch``.
    """

    member: str
    gpus: tuple[int, ...]
    weights: int
    context: int
    activations: int
    kv_per_token: int
    longest: int
    batch: int
    arithmetic: Mapping[str, str]
    adapter: int = 0
    lora_share: float = 0.0
    kv_fraction: float = 0.0
    kv_limit: int | None = None
    by_pytorch: bool = False
    kv_room: int = 0

    @property
    def fixed(self) -> int:
        """Bytes without the KV cache."""
        return self.weights + self.context + self.activations + self.adapter

    @property
    def late(self) -> int:
        """Bytes that are allocated only when questions arrive."""
        return self.activations + self.kv_room if self.by_pytorch else 0

    @property
    def at_start(self) -> int:
        """Bytes allocated at the start, before any KV cache is sized."""
        return self.fixed - self.activations if self.by_pytorch else self.fixed

    def kv_of(self, free: int) -> int:
        """Bytes of its KV cache, given ``free`` bytes after loading."""
        wanted = int(free * self.kv_fraction)
        return wanted if self.kv_limit is None else min(wanted, self.kv_limit)

    def lora_of(self, free: int) -> int:
        """Bytes of its LoRA cache, given ``free`` bytes after loading."""
        return int(free * self.lora_share)


NeedUnder = Callable[[Changes], Need]
"""The memory of an LLM with some options changed; its files were read already."""


def read_llm(members: Sequence[MemberSpec], root: Path) -> NeedUnder:
    """Read one LLM of TensorRT-LLM: a member's, or that of the members of one of :meth:`Deployment.models`.

    Raises:
        BuildError: The model is unknown or a LoRA adapter was made for another.
    """
    name = ", ".join(member.name for member in members)
    options = [member.options for member in members if isinstance(member.options, GpuOptions)]
    adapters = []
    try:
        shape = find_shape(options[0].llm, root)
        shape.weight_bytes(options[0].dtype)
        _check_quantisation(options[0], shape)
        # Each folder is in memory once, for all attributes and members.
        for folder in dict.fromkeys(folder for own in options for folder in own.adapters_used if folder):
            adapters.append(read_adapter(root / folder))
            adapters[-1].check_base(shape, options[0].llm)
    except BuildError as error:
        raise BuildError(f"member {name}: {error}") from error
    return partial(_need, name, options[0], shape, sum(adapter.bytes for adapter in adapters))


def _check_quantisation(options: GpuOptions, shape: Shape) -> None:
    """Refuse an option that differs from the checkpoint: the LLM API does not quantise."""
    method = options.quantization
    if isinstance(options, TensorRtLlmOptions) and method and method != shape.quantisation:
        raise BuildError(
            f"`quantization: {method}`, but {shape.name} is {shape.quantisation or 'not quantised'}; name"
            f" one that is, as in `model: {options.model}-{method}`: `quorum build MEMBER --spec FILE`"
            " makes it of the one without that ending"
        )


def _need(name: str, options: GpuOptions, shape: Shape, adapter: int, changes: Changes) -> Need:
    options = changes.apply(options)
    quantisation = options.quantization or ""
    # Engine builds with FP8 weights get an FP8 KV cache; the LLM API keeps 16 bits.
    is_fp8 = isinstance(options, EngineOptions) and quantisation == "fp8"
    need = base_need(
        name,
        options.devices,
        shape,
        dtype=options.dtype,
        quantisation=quantisation,
        kv_bytes=1 if shape.kv_quantised or is_fp8 else 2,
        tokens=options.max_num_tokens,
        tokens_text=f"{options.max_num_tokens} tokens",
        batch=options.max_batch_size,
        longest=min(options.max_seq_len or shape.max_positions, shape.max_positions),
    )
    gib, fraction = options.kv_cache_gib, options.kv_cache_fraction
    return replace(
        need,
        adapter=adapter,
        lora_share=LORA_CACHE_SHARE[type(options)] if adapter else 0.0,
        kv_fraction=DEFAULT_FRACTION if fraction is None else fraction,
        kv_limit=None if gib is None else int(gib * GIB),
    )


def base_need(
    member: str,
    gpus: tuple[int, ...],
    shape: Shape,
    *,
    dtype: str,
    quantisation: str = "",
    kv_bytes: int,
    tokens: int,
    tokens_text: str,
    batch: int,
    longest: int,
    value_bytes: int = 2,
    logit_bytes: int = 12,
) -> Need:
    """Memory of the weights and of the largest step, its ``tokens`` also in words (``tokens_text``)."""
    parallel = len(gpus)
    wide = 2 * shape.hidden + 3 * shape.intermediate // parallel
    values, logits = tokens * wide * value_bytes, batch * shape.vocabulary * logit_bytes
    return Need(
        member=member,
        gpus=gpus,
        weights=-(-shape.weight_bytes(dtype, quantisation) // parallel),
        context=CONTEXT_BYTES if parallel == 1 else CONTEXT_BYTES_PARALLEL,
        activations=int(ACTIVATION_FACTOR * (values + logits)),
        kv_per_token=shape.kv_bytes_per_token(parallel, kv_bytes),
        longest=longest,
        batch=batch,
        arithmetic={
            "weights": _weights_text(shape, dtype, quantisation, parallel),
            "context": "CUDA context, libraries, graphs" + (", NCCL" if parallel > 1 else ""),
            "activations": (
                f"{ACTIVATION_FACTOR} x ({tokens_text} x {wide} values x {value_bytes} B"
                f" + {batch} questions x {shape.vocabulary} logits x {logit_bytes} B)"
            ),
            "kv_per_token": (
                f"2 x {shape.layers} layers x {kv_heads_on(shape.kv_heads, parallel)} heads"
                f" x {shape.head_dim} wide x {kv_bytes} B"
            ),
        },
    )


def _weights_text(shape: Shape, dtype: str, quantisation: str, parallel: int) -> str:
    """Describe the arithmetic of :meth:`Shape.weight_bytes`."""
    share = f" / {parallel} GPUs" if parallel > 1 else ""
    chosen = quantisation or shape.quantisation
    total = shape.weight_bytes(dtype, quantisation)
    if total == shape.stored_bytes:
        return f"size of its safetensors files{share}"
    if chosen:
        return (
            f"{shape.linear_parameters / 1e9:.2f} G parameters as {chosen}"
            f" + {shape.other_parameters / 1e9:.2f} G in 16 bits{share}"
        )
    return f"{shape.parameters / 1e9:.2f} G parameters x {total / shape.parameters:.0f} B{share}"
