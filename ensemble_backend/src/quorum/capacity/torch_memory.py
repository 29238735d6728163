# SPDX-License-Identifier: Apache-2.0
"""Estimate the GPU memory of a member of runtime ``hf``, as PyTorch allocates on demand.

``generate`` computes a whole batch of padded prompts at once, keeps their keys and values until the last
answer is complete, and computes logits of one position per question. The estimate is for a full batch of the
longest questions.
"""

from __future__ import annotations

import re
from pathlib import Path

from quorum.build.checkpoint import BuildError
from quorum.build.lora import read_adapter
from quorum.build.shapes import Shape, find_shape
from quorum.capacity.memory import ACTIVATION_FACTOR, CONTEXT_BYTES, Need, weights_text
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


def why_not_counted(options: HfOptions, root: Path) -> str:
    """Why the memory of a member of runtime ``hf`` cannot be estimated; empty where it can.

    No reason to refuse: Transformers serves more than decoders of the usual shape.
    """
    try:
        shape = find_shape(options.model, root)
        shape.weight_bytes(_dtype(options, shape))
    except BuildError as error:
        return str(error)
    return ""


def torch_need(member: str, options: HfOptions, root: Path) -> Need:
    """Estimate the memory of a member of runtime ``hf``.

    Args:
        member: Its name.
        options: Options with a GPU by :func:`gpu_of`.
        root: The folder of ``deploy.yaml``.

    Raises:
        BuildError: The model is unknown or its LoRA adapter was made for another.
    """
    try:
        shape = find_shape(options.model, root)
        if options.lora is not None:
            _check_adapter(root / options.lora, shape, options.model)
        return _need(member, gpu_of(options) or 0, options, shape)
    except BuildError as error:
        raise BuildError(f"member {member}: {error}") from error


def _check_adapter(folder: Path, shape: Shape, model: str) -> None:
    """Check an adapter that can be read against its base; PEFT reads more formats than this does."""
    try:
        adapter = read_adapter(folder)
    except BuildError:
        return
    adapter.check_base(shape, model)


def _dtype(options: HfOptions, shape: Shape) -> str:
    """Type of the loaded weights; unlike TensorRT-LLM, Transformers keeps FP32 checkpoints in FP32."""
    return shape.dtype if options.dtype == "auto" else options.dtype


def _need(name: str, gpu: int, options: HfOptions, shape: Shape) -> Need:
    dtype = _dtype(options, shape)
    each = 4 if dtype == "float32" else 2
    longest = min(options.max_seq_len or ASSUMED_TOKENS, shape.max_positions)
    batch, answer = options.max_batch, options.max_new_tokens
    kv_per_token = shape.kv_bytes_per_token(1, each)
    if options.batching == "continuous":
        cached = options.kv_cache_tokens
        tokens, computed = min(STEP_TOKENS, cached), f"{min(STEP_TOKENS, cached)} tokens"
        kept = f"{cached} tokens (kv_cache_tokens)"
    else:
        prompt = max(longest - answer, 1)
        tokens, computed = batch * prompt, f"{batch} questions x {prompt} tokens"
        cached, kept = batch * longest, f"{batch} questions x {longest} tokens"
    wide = 2 * shape.hidden + 3 * shape.intermediate
    return Need(
        member=name,
        gpus=(gpu,),
        weights=shape.weight_bytes(dtype),
        context=CONTEXT_BYTES,
        activations=int(ACTIVATION_FACTOR * (tokens * wide * each + batch * shape.vocabulary * _LOGIT_BYTES)),
        # Merged into the weights at the start.
        adapter=0,
        lora_share=0.0,
        kv_fraction=0.0,
        kv_limit=None,
        kv_per_token=kv_per_token,
        longest=longest,
        batch=batch,
        arithmetic={
            "weights": weights_text(shape, dtype, "", 1),
            "context": "CUDA context, libraries, what PyTorch keeps (estimate)",
            "activations": (
                f"{ACTIVATION_FACTOR} x ({computed} x {wide} values x {each} B"
                f" + {batch} questions x {shape.vocabulary} logits x {_LOGIT_BYTES} B) (estimate)"
            ),
            "kv_per_token": f"2 x {shape.layers} layers x {shape.kv_heads} heads"
            f" x {shape.head_dim} wide x {each} B",
            "kv_cache": f"{kept} (estimate)",
            "longest": "max_seq_len" if options.max_seq_len else "assumed; `max_seq_len` says otherwise",
        },
        by_pytorch=True,
        kv_room=cached * kv_per_token,
    )
