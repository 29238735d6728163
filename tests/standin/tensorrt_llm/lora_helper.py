# SPDX-License-Identifier: Apache-2.0
"""LoRA at construction."""

from __future__ import annotations

from dataclasses import dataclass, field

from ._strict import strict


@strict
@dataclass
class LoraConfig:
    lora_dir: list[str] = field(default_factory=list)
    lora_ckpt_source: str = "hf"
    max_lora_rank: int = 64
    lora_target_modules: list[str] = field(default_factory=list)
    trtllm_modules_to_hf_modules: dict[str, str] = field(default_factory=dict)
    max_loras: int | None = None
    max_cpu_loras: int | None = None
    swap_gate_up_proj: bool = True

    def __post_init__(self) -> None:
        assert self.lora_ckpt_source in ("hf", "nemo"), self.lora_ckpt_source
