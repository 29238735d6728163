# SPDX-License-Identifier: Apache-2.0
"""Tell a plain LoRA adapter, two matrices per module and the scale alpha / rank, from one with more.

TensorRT-LLM, OpenVINO GenAI and a merge read the matrices alone, and leave out whatever else an
adapter has, without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_MORE: Mapping[str, str] = {
    "use_dora": "DoRA magnitudes",
    "use_rslora": "a scale by the root of its rank (rsLoRA)",
    "lora_bias": "biases of its own",
    "modules_to_save": "whole layers (modules_to_save)",
    "trainable_token_indices": "trained tokens",
    "rank_pattern": "ranks of single layers",
    "alpha_pattern": "scales of single layers",
}
"""Setting that is false or empty in a plain adapter -> what it adds."""
_PLAIN = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "r", "target_modules", "lora_alpha", "lora_dropout", "megatron_core"),
        *("qalora_group_size", "runtime_config", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("fan_in_fan_out", "bias", "init_lora_weights", "eva_config"),
    }
)
"""Settings of PEFT 0.21 that a plain adapter may have, three of them with some values only."""
_PLAIN_INITIAL = (None, True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin a training that leave the base's own weights as they are."""


class Extra(NamedTuple):
    """A setting of an adapter that is more than plain LoRA, with its value and what it adds, in words."""

    key: str
    value: Any
    what: str


def extras(config: Mapping[str, Any], *, applied: frozenset[str] = frozenset()) -> list[Extra]:
    """Find what an adapter has that two matrices and the scale alpha / rank do not say; none: it is plain.

    Args:
        config: Content of ``adapter_config.json``. A setting that is not known counts as more.
        applied: Settings that the reader applies.
    """
    found = []
    kind, bias = config.get("peft_type") or "LORA", config.get("bias") or "none"
    initial = config.get("init_lora_weights")
    if str(kind).upper() != "LORA":
        found.append(Extra("peft_type", kind, f"type {kind}"))
    if bias != "none":
        found.append(Extra("bias", bias, f"biases ({bias})"))
    if initial not in _PLAIN_INITIAL:
        found.append(
            Extra("init_lora_weights", initial, f"a start ({initial}) that changes the base's own weights")
        )
    for key, value in config.items():
        if value and key not in _PLAIN and key not in applied:
            found.append(Extra(key, value, _MORE.get(key, f"the setting {key}, which is not plain LoRA")))
    return found


def more_than_plain(config: Mapping[str, Any], *, applied: frozenset[str] = frozenset()) -> str:
    """Say in words what :func:`extras` finds; empty for a plain adapter."""
    return ", ".join(extra.what for extra in extras(config, applied=applied))
