# SPDX-License-Identifier: Apache-2.0
"""Load a local Hugging Face checkpoint, its tokenizer and an adapter, for the ``hf`` runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import HfOptions


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded causal language model, in evaluation mode, with an adapter merged into its weights.

    Attributes:
        end: Tokens that end an answer.
        padding: The token that pads shorter prompts.
        width: Number of logits, which may exceed the tokenizer's tokens.
        positions: Maximum tokens of a prompt with its answer.
    """

    model: Any
    tokenizer: Any
    device: Any
    end: tuple[int, ...]
    padding: int
    width: int
    positions: int


def load(settings: RuntimeSettings[HfOptions]) -> Loaded:
    """Load the checkpoint and adapter of a member's options.

    Raises RuntimeConfigError: no such device, or the checkpoint or the adapter cannot be loaded.
    """
    options = settings.options
    device = _device(settings)
    folder = settings.root / options.model
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=_dtype(options.dtype, device), device_map={"": device}
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise settings.error(f"{folder} cannot be loaded as a causal language model ({error})") from error
    if options.lora is not None:
        model = _adapted(settings, settings.root / options.lora, model)
    model.eval()
    return _described(settings, model, tokenizer, device)


def _device(settings: RuntimeSettings[HfOptions]) -> Any:
    name = settings.options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise settings.error(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise settings.error(
            f"device {name!r} is not here: PyTorch {torch.__version__} sees {torch.cuda.device_count()} CUDA"
            " devices; use cpu, or on a machine with a GPU `QUORUM_TORCH=cuda make setup-hf`"
        )
    return device


def _dtype(name: str, device: Any) -> Any:
    if name == "auto":
        # CPUs without bfloat16 units emulate it, many times slower than float32.
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, name)


def _adapted(settings: RuntimeSettings[HfOptions], folder: Path, model: Any) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise settings.error(f"{folder} is no adapter of {settings.options.model} ({error})") from error


def _described(settings: RuntimeSettings[HfOptions], model: Any, tokenizer: Any, device: Any) -> Loaded:
    sources = [model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id]
    end: dict[int, None] = {}
    for eos in sources:
        end |= dict.fromkeys(eos if isinstance(eos, list) else [] if eos is None else [eos])
    if not end:
        raise settings.error(
            "neither model nor tokenizer has an end-of-sequence token; set eos_token_id in the checkpoint's"
            " generation_config.json"
        )
    ids = tuple(end)
    padding = ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config = model.config.get_text_config()
    # Drop the checkpoint's settings for sampling and penalties, which would change even greedy answers.
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=list(ids), pad_token_id=padding)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=device,
        end=ids,
        padding=padding,
        width=model.get_output_embeddings().weight.shape[0],
        positions=int(getattr(config, "max_position_embeddings", None) or 1 << 31),
    )
