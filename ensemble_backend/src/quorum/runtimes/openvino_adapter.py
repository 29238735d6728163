# SPDX-License-Identifier: Apache-2.0
"""Read a PEFT adapter for OpenVINO GenAI, which knows its matrices but not its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import openvino_genai as genai

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.option_base import Count
from quorum.runtimes.options import OpenVinoOptions


class _Settings(msgspec.Struct):
    r: Count
    lora_alpha: float = 8
    peft_type: str = "LORA"
    bias: str = "none"
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: list[str] | None = None
    rank_pattern: Mapping[str, Any] | None = None
    alpha_pattern: Mapping[str, Any] | None = None


def read_adapter(settings: RuntimeSettings[OpenVinoOptions]) -> Any:
    """The adapter of a member's options, as a property of its pipeline; None: it has none.

    It is applied to all questions: this version ignores the adapters of single requests between steps. Its
    matrices are applied beside the weights, which may thus be quantised.

    Raises:
        RuntimeConfigError: The adapter cannot be read, or has parts that GenAI would leave out.
    """
    if settings.options.lora is None:
        return None
    folder = settings.root / settings.options.lora
    try:
        found = msgspec.json.decode((folder / "adapter_config.json").read_bytes(), type=_Settings)
    except (OSError, ValueError, RecursionError) as error:
        raise settings.error(f"lora: {folder / 'adapter_config.json'} cannot be read ({error})") from error
    if left_out := _left_out(found):
        raise settings.error(
            f"lora: the adapter in {folder} has {left_out}, which OpenVINO GenAI does not apply; merge it"
            " into the checkpoint with PEFT's merge_and_unload and `quorum build` that"
        )
    scale = found.lora_alpha / (math.sqrt(found.r) if found.use_rslora else found.r)
    try:
        adapter = genai.Adapter(str(folder / "adapter_model.safetensors"))
    except RuntimeError as error:
        raise settings.error(f"lora: the adapter in {folder} cannot be read ({error})") from error
    config = genai.AdapterConfig(genai.AdapterConfig.Mode.MODE_STATIC)
    config.add(adapter, scale)
    return config


def _left_out(found: _Settings) -> str:
    """What a plain pair of matrices per layer does not say; empty if there is nothing."""
    parts = {
        f"type {found.peft_type}": found.peft_type.upper() != "LORA",
        "DoRA magnitudes": found.use_dora,
        "biases": found.bias != "none",
        "whole layers (modules_to_save)": bool(found.modules_to_save),
        "ranks or scales of single layers": bool(found.rank_pattern or found.alpha_pattern),
    }
    return ", ".join(part for part, there in parts.items() if there)
