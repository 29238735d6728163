# SPDX-License-Identifier: Apache-2.0
"""Read a LoRA adapter (PEFT's format) and check that it fits its base model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from quorum.build.checkpoint import BuildError, read_json, tensor_shapes
from quorum.build.shapes import Shape
from quorum.runtimes.option_base import Count

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_LAYER = re.compile(r"\.(\d{1,9})\.")


class _Config(msgspec.Struct):
    r: Count
    peft_type: str = "LORA"
    base_model_name_or_path: str | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter in a folder, with its rank, its size in bytes and its tensors' shapes by name.

    The model that it was trained on, ``base``, may be empty.
    """

    path: Path
    base: str
    rank: int
    bytes: int
    shapes: Mapping[str, tuple[int, ...]]

    def check_base(self, shape: Shape, model: str) -> None:
        """Refuse, by a BuildError, a base that this adapter does not fit; ``model`` is its name.

        Names are compared by their last part, since a base may be in any folder; without comparable names
        shapes decide.
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
        layers = [int(number) for name in self.shapes for number in _LAYER.findall(name)]
        if layers and max(layers) >= shape.layers:
            return f"it adapts layer {max(layers)}, the base has {shape.layers} layers"
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        widths = {  # module -> (values that it reads, values that it writes)
            "q_proj": (shape.hidden, q),
            "k_proj": (shape.hidden, kv),
            "v_proj": (shape.hidden, kv),
            "o_proj": (q, shape.hidden),
            "gate_proj": (shape.hidden, shape.intermediate),
            "up_proj": (shape.hidden, shape.intermediate),
            "down_proj": (shape.intermediate, shape.hidden),
        }
        for name, dims in self.shapes.items():
            module, _, side = name.partition(".lora_")
            module = module.rpartition(".")[2]
            if module not in widths or side[:2] not in ("A.", "B."):
                continue
            reads, writes = widths[module]
            if len(dims) != 2:
                return f"{name} is no matrix"
            if side[0] == "A" and dims[1] != reads:
                return f"{name} reads {dims[1]} values, {module} of the base gets {reads}"
            if side[0] == "B" and dims[0] != writes:
                return f"{name} writes {dims[0]} values, {module} of the base {writes}"
        return ""


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's configuration and tensor shapes; raises BuildError if it is no PEFT LoRA adapter."""
    file = folder / CONFIG
    config = read_json(file, _Config, "name the folder that PEFT's save_pretrained wrote")
    if config.peft_type.upper() != "LORA":
        raise BuildError(f"{file}: a {config.peft_type} adapter; only LoRA can be served")
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BuildError(f"{folder}: no {WEIGHTS}; save the adapter with safe_serialization=True")
    base = config.base_model_name_or_path or ""
    return Adapter(folder, base, config.r, weights.stat().st_size, tensor_shapes(weights))


def _last_part(model: str) -> str:
    return Path(model).name.casefold()
