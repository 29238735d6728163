# SPDX-License-Identifier: Apache-2.0
"""Read which modules a PEFT adapter changes, by TensorRT-LLM's names for them.

TensorRT-LLM needs these names before it reads an adapter: a compiled engine and an LLM have LoRA on the
modules that they were made with, and refuse an adapter of others. The names and the completion of query, key
and value follow ``get_default_trtllm_modules_to_hf_modules`` and
``get_missing_qkv_modules_from_lora_modules`` in its ``lora_helper.py`` (up to 1.3) and
``_torch/peft/lora/config.py`` (1.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.option_base import Count
from quorum.runtimes.options import Lora, TensorRtLlmOptions
from quorum.runtimes.plain_lora import more_than_plain

ADAPTER_CONFIG = "adapter_config.json"
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_dense",
        "gate_proj": "mlp_h_to_4h",
        "down_proj": "mlp_4h_to_h",
        "up_proj": "mlp_gate",
    }
)
"""Hugging Face's name of a module -> TensorRT-LLM's, of those that can be served."""
_ATTENTION = frozenset({"attn_q", "attn_k", "attn_v"})


class _Config(msgspec.Struct):
    r: Count
    target_modules: list[str]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A PEFT adapter; ``modules`` are the modules that TensorRT-LLM needs for it, sorted."""

    name: str
    path: Path
    rank: int
    modules: tuple[str, ...]


def read_peft_adapter(lora: Lora, root: Path) -> PeftAdapter:
    """Read the adapter that an option names, relative to ``root``.

    Raises:
        ValueError: It is no PEFT adapter, has another rank than the option says, has more than plain LoRA
            has, or changes a module that cannot be served.
    """
    path = root / lora.path
    try:
        found = msgspec.json.decode((path / ADAPTER_CONFIG).read_bytes(), type=dict[str, Any])
        config = msgspec.convert(found, _Config)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no PEFT adapter ({error!r}); name the folder with {ADAPTER_CONFIG}"
        ) from error
    if more := more_than_plain(found):
        raise ValueError(
            f"the adapter in {path} has {more}, and only plain LoRA can be served; merge it into the"
            " checkpoint with PEFT's merge_and_unload and serve that, or tune a plain one with `quorum tune`"
        )
    if lora.rank and lora.rank != config.r:
        raise ValueError(
            f"rank {lora.rank}, but the adapter in {path} has {config.r}; write that one, or leave `rank` out"
        )
    unsupported = sorted(set(config.target_modules) - set(MODULES))
    if unsupported:
        raise ValueError(
            f"the adapter in {path} changes {', '.join(unsupported)}; only {', '.join(MODULES)} can be served"
        )
    return PeftAdapter(lora.title, path, config.r, complete(MODULES[name] for name in config.target_modules))


def adapters_of(settings: RuntimeSettings[TensorRtLlmOptions]) -> dict[str, PeftAdapter]:
    """Folder, as options name it -> adapter, of all members of the LLM.

    Raises:
        RuntimeConfigError: An adapter cannot be served, as :func:`read_peft_adapter` says.
    """
    found: dict[str, PeftAdapter] = {}
    for own in (settings.options, *settings.peers):
        named = [("lora", own.lora)] if own.lora else []
        named += [(f"adapters.{name}", Lora(folder)) for name, folder in own.adapters.items()]
        for option, lora in named:
            if lora.path not in found:
                try:
                    found[lora.path] = read_peft_adapter(lora, settings.root)
                except ValueError as error:
                    raise settings.error(f"{option}: {error}") from error
    return found


def complete(modules: Iterable[str]) -> tuple[str, ...]:
    """Add the missing ones of query, key and value where one of them is there, and sort.

    TensorRT-LLM computes the three in one step and gives those that an adapter lacks weights of zero.
    """
    names = set(modules)
    return tuple(sorted(names | _ATTENTION if names & _ATTENTION else names))
