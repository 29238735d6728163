# SPDX-License-Identifier: Apache-2.0
"""Estimate the GPU memory of a member of runtime ``hf``, as PyTorch allocates on demand.

``generate`` computes a whole batch of padded prompts at once, keeps their keys and values until the last
answer is complete, and computes logits of one position per question. The estimate is for a full batch of the
longest questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from quorum.build.checkpoint import BuildError
from quorum.build.lora import read_adapter
from quorum.build.shapes import Shape, find_shape
from quorum.capacity.memory import Changes, Need, NeedUnder, base_need
from quorum.runtimes.option_base import Options
from quorum.runtimes.options import HfOptions

ASSUMED_TOKENS = 2048
"""Tokens of the longest question with its answer, without ``max_seq_len``."""
STEP_TOKENS = 2048
"""Maximum prompt tokens of a step of continuous batching (``runtimes/hf_continuous.py``)."""
# Of one logit: 16 bits, FP32 and a masked copy; two INT32 and one bool in between (runtimes/hf_guide.py).
_LOGIT_BYTES = 20
_CUDA = re.compile(r"cuda(?::(\d+))?")


def gpu_of(options: Options, *, auto: bool = True) -> int | None:
    """The GPU of a member of runtime ``hf``, or ``None``; ``auto``: whether PyTorch finds a GPU."""
    if not isinstance(options, HfOptions):
        return None
    if options.device == "auto":
        return 0 if auto else None
    device = _CUDA.fullmatch(options.device)
    return int(device[1] or 0) if device else None


def read_torch_llm(members: Mapping[str, HfOptions], root: Path) -> NeedUnder | str:
    """Read the model of a member of runtime ``hf``, or of members that share it, by their names.

    Returns the reason where its memory cannot be estimated. That is no reason to refuse it: Transformers
    serves more than decoders of the usual shape.

    Raises:
        BuildError: A LoRA adapter is of another model.
    """
    options = next(iter(members.values()))
    try:
        shape = find_shape(options.model, root)
        shape.weight_bytes(_dtype(options, shape))
    except BuildError as error:
        return str(error)
    sizes = {
        folder: _adapter_bytes(name, root / folder, shape, options.model)
        for name, own in members.items()
        for folder in own.adapters_used
        if folder is not None
    }
    # A single adapter is merged into the weights.
    is_merged = len({folder for own in members.values() for folder in own.adapters_used}) == 1
    # The longest prompts are those of the shortest answers.
    shortest = min(own.max_new_tokens for own in members.values())
    longest_prompts = msgspec.structs.replace(options, max_new_tokens=shortest)
    adapters = 0 if is_merged else sum(sizes.values())
    return partial(_need, ", ".join(members), longest_prompts, shape, adapters)


def _adapter_bytes(member: str, folder: Path, shape: Shape, model: str) -> int:
    try:
        adapter = read_adapter(folder)
    except BuildError:
        return 0  # PEFT reads more formats than this does
    try:
        adapter.check_base(shape, model)
    except BuildError as error:
        raise BuildError(f"member {member}: {error}") from error
    return adapter.bytes


def _dtype(options: HfOptions, shape: Shape) -> str:
    """Type of the loaded weights; unlike TensorRT-LLM, Transformers keeps FP32 checkpoints in FP32."""
    return shape.dtype if options.dtype == "auto" else options.dtype


def _need(member: str, options: HfOptions, shape: Shape, adapter: int, changes: Changes) -> Need:
    options = changes.apply(options)
    dtype = _dtype(options, shape)
    each = 4 if dtype == "float32" else 2
    longest = min(options.max_seq_len or ASSUMED_TOKENS, shape.max_positions)
    batch = options.max_batch
    if options.batching == "continuous":
        cached = options.kv_cache_tokens
        tokens = min(STEP_TOKENS, cached)
        text, kept = f"{tokens} tokens", f"{cached} tokens (kv_cache_tokens)"
    else:
        prompt = max(longest - options.max_new_tokens, 1)
        tokens, cached = batch * prompt, batch * longest
        text, kept = f"{batch} questions x {prompt} tokens", f"{batch} questions x {longest} tokens"
    need = base_need(
        member,
        (gpu_of(options) or 0,),
        shape,
        dtype=dtype,
        kv_bytes=each,
        tokens=tokens,
        tokens_text=text,
        batch=batch,
        longest=longest,
        value_bytes=each,
        logit_bytes=_LOGIT_BYTES,
    )
    arithmetic = {
        **need.arithmetic,
        "context": "CUDA context, libraries, what PyTorch keeps (estimate)",
        "activations": f"{need.arithmetic['activations']} (estimate)",
        "kv_cache": f"{kept} (estimate)",
        "longest": "max_seq_len" if options.max_seq_len else "assumed; `max_seq_len` says otherwise",
    }
    return replace(
        need,
        adapter=adapter,
        arithmetic=arithmetic,
        by_pytorch=True,
        kv_room=cached * need.kv_per_token,
    )
