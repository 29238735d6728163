# SPDX-License-Identifier: Apache-2.0
"""Compute the GPU memory of an LLM: weights, runtime, KV cache and LoRA, each with its arithmetic.

TensorRT-LLM sizes its KV cache after the weights are loaded and a trial run with ``max_num_tokens`` tokens:
``(total - peak) * fraction``, where ``peak`` includes all *other* processes on that GPU at that moment
(``tensorrt_llm/_torch/pyexecutor/_util.py``, 1.x; the C++ runtime does the same with the memory free then).
An upper limit in bytes (``kv_cache_gib``) or tokens makes it the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from quorum.build.checkpoint import BuildError
from quorum.build.lora import Adapter, read_adapter
from quorum.build.shapes import Shape, find_shape
from quorum.deployment.schema import MemberSpec
from quorum.hardware import GIB
from quorum.runtimes.kv_cache import kv_heads_on
from quorum.runtimes.option_base import Options
from quorum.runtimes.options import EngineOptions, GpuOptions, Lora, TensorRtLlmOptions

# Memory of a process on each GPU besides tensors: CUDA context, cuBLAS, CUDA graphs, NCCL. Llama-3-8B on an
# H100 held 1.79 GiB alone and 3.58 GiB on each of two (vLLM pull request 10511, 2024-12); TensorRT-LLM prints
# its own figure at start ("Memory used outside torch").
CONTEXT_BYTES = 2 * GIB
CONTEXT_BYTES_PARALLEL = 4 * GIB
# Applied to the peak of activations: residual and normed stream, gate, up and their product, in 16 bits; and
# FP32 logits with two copies for sampling. For Llama-3-8B, 8192 tokens and 256 questions that is 1.15 GiB,
# where the run above measured 1.26 GiB; the factor covers the difference and kernels' workspaces.
ACTIVATION_FACTOR = 1.25
_LOGIT_BYTES = 12
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
    """Memory of one LLM on each of its GPUs.

    Attributes:
        member: Name of its member, or names of those that share it.
        gpus: Numbers of its GPUs.
        weights: Bytes.
        context: Bytes outside of tensors.
        activations: Bytes of the largest step.
        adapter: Bytes of LoRA adapters.
        lora_share: The LoRA cache's share of the memory left after loading.
        kv_fraction: The KV cache's share of the memory left after loading.
        kv_limit: Its upper limit in bytes; ``None`` for none.
        kv_per_token: Bytes of one token.
        longest: Tokens of the longest question with its answer.
        batch: Maximum number of questions at once.
        arithmetic: Part -> how it was computed.
        by_pytorch: Whether activations and KV cache are allocated as questions arrive (runtime ``hf``), and
            thus estimated; otherwise all is allocated at the start.
        kv_room: Bytes of KV cache of its full batch, if ``by_pytorch``.
    """

    member: str
    gpus: tuple[int, ...]
    weights: int
    context: int
    activations: int
    adapter: int
    lora_share: float
    kv_fraction: float
    kv_limit: int | None
    kv_per_token: int
    longest: int
    batch: int
    arithmetic: Mapping[str, str]
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

    @property
    def kv_least(self) -> int:
        """Bytes of KV cache that one longest question needs."""
        return self.longest * self.kv_per_token

    def kv_of(self, free: int) -> int:
        """Bytes of its KV cache, given ``free`` bytes after loading."""
        wanted = int(free * self.kv_fraction)
        return wanted if self.kv_limit is None else min(wanted, self.kv_limit)

    def lora_of(self, free: int) -> int:
        """Bytes of its LoRA cache, given ``free`` bytes after loading."""
        return int(free * self.lora_share)


def need_of(members: Sequence[MemberSpec], root: Path, changes: Changes = UNCHANGED) -> Need:
    """Compute the memory of one LLM of TensorRT-LLM.

    Args:
        members: The member, or those that share the LLM, by :meth:`Deployment.models`.
        root: The folder of ``deploy.yaml``.
        changes: Options to plan with instead of its own.

    Raises:
        BuildError: The model is unknown or a LoRA adapter was made for another.
    """
    name = ", ".join(member.name for member in members)
    options = [member.options for member in members if isinstance(member.options, GpuOptions)]
    try:
        shape = find_shape(options[0].llm, root)
        if changes.quantization is None:
            _check_quantisation(options[0], shape)
        adapters = [_adapter(own.lora, root, shape, own.llm) for own in options if own.lora]
        return _need(name, changes.apply(options[0]), shape, adapters)
    except BuildError as error:
        raise BuildError(f"member {name}: {error}") from error


def _check_quantisation(options: GpuOptions, shape: Shape) -> None:
    """Refuse an option that differs from the checkpoint: the LLM API does not quantise."""
    method = options.quantization
    if isinstance(options, TensorRtLlmOptions) and method and method != shape.quantisation:
        raise BuildError(
            f"`quantization: {method}`, but {shape.name} is {shape.quantisation or 'not quantised'}; name"
            f" one that is, as in `model: {options.model}-{method}`: `quorum build MEMBER --spec FILE`"
            " makes it of the one without that ending"
        )


def _adapter(lora: Lora, root: Path, shape: Shape, model: str) -> Adapter:
    adapter = read_adapter(root / lora.path)
    adapter.check_base(shape, model)
    return adapter


def _need(name: str, options: GpuOptions, shape: Shape, adapters: Sequence[Adapter]) -> Need:
    parallel, batch, tokens = options.tensor_parallel, options.max_batch_size, options.max_num_tokens
    dtype, quantisation = options.dtype, options.quantization or ""
    longest = min(options.max_seq_len or shape.max_positions, shape.max_positions)
    weights = -(-shape.weight_bytes(dtype, quantisation) // parallel)
    # Engine builds with FP8 weights get an FP8 KV cache; the LLM API keeps 16 bits.
    is_fp8 = isinstance(options, EngineOptions) and quantisation == "fp8"
    kv_bytes = 1 if shape.kv_quantised or is_fp8 else 2
    wide = 2 * shape.hidden + 3 * shape.intermediate // parallel
    activations = int(ACTIVATION_FACTOR * (tokens * wide * 2 + batch * shape.vocabulary * _LOGIT_BYTES))
    gib, fraction = options.kv_cache_gib, options.kv_cache_fraction
    return Need(
        member=name,
        gpus=options.devices,
        weights=weights,
        context=CONTEXT_BYTES if parallel == 1 else CONTEXT_BYTES_PARALLEL,
        activations=activations,
        adapter=sum(adapter.bytes for adapter in adapters),
        lora_share=LORA_CACHE_SHARE[type(options)] if adapters else 0.0,
        kv_fraction=DEFAULT_FRACTION if fraction is None else fraction,
        kv_limit=None if gib is None else int(gib * GIB),
        kv_per_token=shape.kv_bytes_per_token(parallel, kv_bytes),
        longest=longest,
        batch=batch,
        arithmetic={
            "weights": weights_text(shape, dtype, quantisation, parallel),
            "context": "CUDA context, libraries, graphs" + (", NCCL" if parallel > 1 else ""),
            "activations": (
                f"{ACTIVATION_FACTOR} x ({tokens} tokens x {wide} values x 2 B"
                f" + {batch} questions x {shape.vocabulary} logits x {_LOGIT_BYTES} B)"
            ),
            "kv_per_token": (
                f"2 x {shape.layers} layers x {kv_heads_on(shape.kv_heads, parallel)} heads"
                f" x {shape.head_dim} wide x {kv_bytes} B"
            ),
        },
    )


def weights_text(shape: Shape, dtype: str, quantisation: str, parallel: int) -> str:
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
