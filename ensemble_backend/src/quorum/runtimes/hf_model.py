# SPDX-License-Identifier: Apache-2.0
"""Load a local Hugging Face checkpoint, its tokenizer and its adapters, for the ``hf`` runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import HfOptions


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded causal language model, in evaluation mode.

    Attributes:
        adapters: Folder of an adapter (None: without one) -> PEFT's name of it in a batch; empty where one
            adapter, or none, answers everything: that one is merged into the weights.
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
    adapters: Mapping[str | None, str] = field(default_factory=dict)

    def batch_arguments(self, adapters: Sequence[str | None]) -> dict[str, Any]:
        """Arguments of ``generate`` for rows (``[B]``) of these adapters."""
        if not self.adapters:
            return {}
        return {"adapter_names": [self.adapters[folder] for folder in adapters]}


def load(settings: RuntimeSettings[HfOptions]) -> Loaded:
    """Load the checkpoint, and the adapters of a member and of its peers.

    Raises RuntimeConfigError: no such device, or the checkpoint or an adapter cannot be loaded.
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
    wanted = adapters_of(settings)
    if wanted == (None,):
        return _described(settings, model.eval(), tokenizer, device, {})
    names = (
        {} if len(wanted) == 1 else {folder: _name(number, folder) for number, folder in enumerate(wanted)}
    )
    model = _adapted(settings, model, wanted, names).eval()
    loaded = _described(settings, model, tokenizer, device, names)
    if names:
        _try_together(settings, loaded)
    return loaded


def adapters_of(settings: RuntimeSettings[HfOptions]) -> tuple[str | None, ...]:
    """Adapters that a member and its peers use, each once, in an order of its own; None: without one."""
    used = {folder for own in (settings.options, *settings.peers) for folder in own.adapters_used}
    return tuple(sorted(used, key=lambda folder: folder or ""))


def _name(number: int, folder: str | None) -> str:
    # PyTorch makes modules of the names: a path may hold characters that they must not.
    return _WITHOUT if folder is None else f"adapter{number}"


_WITHOUT = "__base__"
"""PEFT's name of rows that no adapter changes."""


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


def _adapted(
    settings: RuntimeSettings[HfOptions],
    model: Any,
    wanted: Sequence[str | None],
    names: Mapping[str | None, str],
) -> Any:
    """The model with its one adapter merged, or with all of them loaded, by name."""
    from peft import PeftModel

    folders = [folder for folder in wanted if folder is not None]
    try:
        if not names:
            return PeftModel.from_pretrained(model, str(settings.root / folders[0])).merge_and_unload()
        for number, folder in enumerate(folders):
            path, name = str(settings.root / folder), names[folder]
            # Adapters in the weights' own type: PEFT would make FP32 of 16 bits.
            if number:
                model.load_adapter(path, adapter_name=name, autocast_adapter_dtype=False)
            else:
                model = PeftModel.from_pretrained(
                    model, path, adapter_name=name, autocast_adapter_dtype=False
                )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        named = " or ".join(str(settings.root / folder) for folder in folders)
        raise settings.error(f"{named} is no adapter of {settings.options.model} ({error})") from error
    return model


def _try_together(settings: RuntimeSettings[HfOptions], loaded: Loaded) -> None:
    """Compute a token with all adapters in one batch: PEFT cannot do that with every kind of adapter."""
    tokens = torch.full((len(loaded.adapters), 1), loaded.padding, device=loaded.device)
    try:
        with torch.inference_mode():
            loaded.model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=1,
                **loaded.batch_arguments(tuple(loaded.adapters)),
            )
    except (ValueError, NotImplementedError, RuntimeError, TypeError) as error:
        folders = ", ".join(folder for folder in loaded.adapters if folder is not None)
        raise settings.error(
            f"the adapters {folders} of {settings.options.model} cannot answer in one batch ({error}); give"
            " each a member of its own, by `lora`, with `shared: false`: it is then merged"
        ) from error


def _described(
    settings: RuntimeSettings[HfOptions],
    model: Any,
    tokenizer: Any,
    device: Any,
    adapters: Mapping[str | None, str],
) -> Loaded:
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
        adapters=adapters,
    )
