# SPDX-License-Identifier: Apache-2.0
"""Requests and results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ._strict import strict


@strict
@dataclass(slots=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""

    def __post_init__(self) -> None:
        if self.lora_path is not None and not Path(self.lora_path).exists():
            raise ValueError(f"lora_path ({self.lora_path}) does not exist.")
