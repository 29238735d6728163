# SPDX-License-Identifier: Apache-2.0
"""Read a LoRA adapter (PEFT's format) and check that it fits its base model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.build.checkpoint import BuildError, tensor_shapes
from quorum.build.shapes import Shape
from quorum.runtimes.options import Lora

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter.

    Attributes:
        path: Its folder.
        base: The model it was trained on, by its configuration; may be empty.
        rank: Of its matrices.
        bytes: Size of its weights.
        shapes: Tensor name -> shape.
    """

    path: Path
    base: str
    rank: int
    bytes: int
    shapes: Mapping[str, tuple[int, ...]]

    def check_base(self, shape: Shape, model: str) -> None:
        """Refuse a base model that this adapter does not fit.

        Names are compared by their last part, since a base may be in any folder; without comparable names
        shapes decide.

        Args:
            shape: Of the base model.
            model: The base model as ``deploy.yaml`` names it.

        Raises:
            BuildError: It was made for another base.
        """
        misfit = self._misfit(shape)
        if misfit:
            raise BuildError(
                f"{self.path}: LoRA adapter of another base, not {model}: {misfit};"
                f" name the base of its training{f' ({self.base})' if self.base else ''}, or another adapter"
            )
        base = _last_part(self.base)
        # A folder may have any name; a Hugging Face id names the model.
        if base and not Path(shape.name).is_dir() and base != _last_part(model):
            raise BuildError(
                f"{self.path}: this LoRA adapter was trained on {self.base}, not on {model}"
                f" ({CONFIG}: base_model_name_or_path); put `model: {self.base}`, or name another adapter"
            )

    def _misfit(self, shape: Shape) -> str:
        layers = [int(part) for name in self.shapes for part in name.split(".") if part.isdecimal()]
        if layers and max(layers) >= shape.layers:
            return f"it adapts layer {max(layers)}, the base has {shape.layers} layers"
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        outputs = {"q_proj": q, "k_proj": kv, "v_proj": kv, "o_proj": shape.hidden}
        inputs = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), shape.hidden)
        outputs |= {"gate_proj": shape.intermediate, "up_proj": shape.intermediate, "down_proj": shape.hidden}
        inputs |= {"o_proj": q, "down_proj": shape.intermediate}
        for name, dims in self.shapes.items():
            for module in outputs:
                if f".{module}.lora_A." in name and dims[-1] != inputs[module]:
                    return f"{name} reads {dims[-1]} values, {module} of the base gets {inputs[module]}"
                if f".{module}.lora_B." in name and dims[0] != outputs[module]:
                    return f"{name} writes {dims[0]} values, {module} of the base {outputs[module]}"
        return ""


def rank_of(lora: Lora, root: Path) -> int:
    """The rank in the option ``lora``, else in the adapter; raises BuildError if there is neither."""
    return lora.rank or read_adapter(root / lora.path).rank


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's configuration and the shapes of its weights.

    Raises:
        BuildError: It is no PEFT LoRA adapter.
    """
    file = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text("utf-8"))
        rank, kind = int(config["r"]), str(config.get("peft_type", "LORA"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{file}: cannot be read ({error}); name the folder that PEFT's save_pretrained wrote"
        ) from error
    if kind.upper() != "LORA":
        raise BuildError(f"{file}: a {kind} adapter; only LoRA can be served")
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BuildError(f"{folder}: no {WEIGHTS}; save the adapter with safe_serialization=True")
    base = str(config.get("base_model_name_or_path") or "")
    return Adapter(folder, base, rank, weights.stat().st_size, tensor_shapes(weights))


def _last_part(model: str) -> str:
    return Path(model).name.casefold()
