# SPDX-License-Identifier: Apache-2.0
"""Inspect a Hugging Face checkpoint without loading it: validity, family, size and hash."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from safetensors import SafetensorError, safe_open

from quorum_contract.errors import QuorumError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_CHUNK_BYTES = 1 << 20
Kind = TypeVar("Kind")


class BuildError(QuorumError, RuntimeError):
    """A model cannot be built; the message names the file and the fix."""

    code = "BUILD_FAILED"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A local Hugging Face causal language model.

    Attributes:
        family: ``model_type`` of its configuration, e.g. ``"llama"``.
        parameters: Stored parameters; tied ones count once.
        hash: ``sha256:...`` over names and contents of configuration, weights and tokenizer.
    """

    path: Path
    family: str
    parameters: int
    weight_bytes: int
    hash: str


def inspect_checkpoint(path: Path) -> Checkpoint:
    """Check that a folder holds a causal language model that an exporter can read, and describe it.

    Raises:
        BuildError: It is no folder, or configuration, safetensors weights or tokenizer are missing or
            unreadable, or the model is not a causal language model, or needs custom code.
    """
    if not path.is_dir():
        raise BuildError(f"{path}: no such folder; give that of a Hugging Face checkpoint")
    config = _config(path)
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise BuildError(f"{path}: no *.safetensors file; save the model with safe_serialization=True")
    tokenizer = [path / name for name in TOKENIZER_FILES if (path / name).is_file()]
    if not tokenizer:
        raise BuildError(
            f"{path}: no tokenizer ({', '.join(TOKENIZER_FILES)}); save one there with save_pretrained"
        )
    return Checkpoint(
        path=path,
        family=config.model_type,
        parameters=stored_parameters(weights),
        weight_bytes=sum(file.stat().st_size for file in weights),
        hash=hash_of([path / "config.json", *weights, *tokenizer]),
    )


def stored_parameters(weights: list[Path]) -> int:
    """Number of parameters in safetensors files; tied ones count once."""
    return sum(math.prod(shape) for file in weights for shape in tensor_shapes(file).values())


class _Config(msgspec.Struct):
    model_type: str = ""
    architectures: list[str] | None = None
    auto_map: dict[str, object] | None = None


def _config(path: Path) -> _Config:
    file = path / "config.json"
    if not file.is_file():
        raise BuildError(f"{path}: no config.json; this is not the folder of a Hugging Face checkpoint")
    config = read_json(file, _Config)
    if not config.model_type:
        raise BuildError(f"{file}: no model_type; fetch the checkpoint again")
    if config.auto_map:
        raise BuildError(
            f"{file}: auto_map says that the model brings code of its own, which a build never runs;"
            " use a checkpoint of a family that Transformers knows"
        )
    if not any(name.endswith("ForCausalLM") for name in config.architectures or ()):
        named = ", ".join(config.architectures or ()) or "none"
        raise BuildError(
            f"{file}: not a causal language model (architectures: {named}, needed: ...ForCausalLM)"
        )
    return config


def read_json(file: Path, kind: type[Kind], advice: str = "fetch the checkpoint again") -> Kind:
    """Read a JSON file as a type; a struct ignores other keys. Its BuildError ends with the advice."""
    try:
        return msgspec.convert(json.loads(file.read_text("utf-8")), kind)
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"{file}: cannot be read ({error}); {advice}") from error


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, from the header of a safetensors file; BuildError if it is cut off or none."""
    try:
        with safe_open(file, framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BuildError(f"{file}: not a safetensors file ({error}); fetch the checkpoint again") from error


def hash_of(files: Sequence[Path]) -> str:
    """``sha256:...`` over names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
