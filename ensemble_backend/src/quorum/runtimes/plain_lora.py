# SPDX-License-Identifier: Apache-2.0
"""Tell a plain LoRA adapter, two matrices per module and one scale, from one with more (PEFT's settings)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def more_than_plain(config: Mapping[str, Any], *, applied: frozenset[str] = frozenset()) -> str:
    """Say what an adapter has that two matrices and the scale alpha / rank do not say; empty for a plain one.

    Args:
        config: Content of ``adapter_config.json``.
        applied: Settings that the reader applies.
    """
    kind, bias = config.get("peft_type") or "LORA", config.get("bias") or "none"
    parts = [f"type {kind}"] if str(kind).upper() != "LORA" else []
    parts += [f"biases ({bias})"] if bias != "none" else []
    parts += [what for key, what in _MORE.items() if config.get(key) and key not in applied]
    return ", ".join(parts)
