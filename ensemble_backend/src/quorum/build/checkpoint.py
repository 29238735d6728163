# SPDX-License-Identifier: Apache-2.0
"""Looks at a Hugging Face checkpoint without loading it: is it one, of which family, how big, which hash."""

from __future__ import annotations

from quorum_contract.errors import QuorumError

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 20


class BuildError(QuorumError, RuntimeError):
    """A model cannot be built; the message says what, where and what to do next."""

    code = "BUILD_FAILED"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A local Hugging Face causal language model.

    Attributes:
        path: Its folder.
        family: ``model_type`` of its configuration, e.g. ``"llama"``.
        parameters: Number of stored parameters; tied ones count once.
        weight_bytes: Size of the safetensors files in bytes.
        hash: ``sha256:...`` over names and contents of configuration, weights and tokenizer.
    """

    path: Path
    family: str
    parameters: int
    weight_bytes: int
    hash: str


def inspect_checkpoint(path: Path) -> Checkpoint:
    """Check that a folder holds a causal language model that an exporter can read, and describe it.

    Args:
        path: The checkpoint's folder.

    Returns:
        The description.

    Raises:
        BuildError: It is no folder, or configuration, safetensors weights or tokenizer are missing or
            unreadable, or the model is not a causal language model, or needs code of its own.
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
        family=str(config["model_type"]),
        parameters=stored_parameters(weights),
        weight_bytes=sum(file.stat().st_size for file in weights),
        hash=hash_of([path / "config.json", *weights, *tokenizer]),
    )


def stored_parameters(weights: list[Path]) -> int:
    """Number of parameters in safetensors files; tied ones count once.

    Raises:
        BuildError: One of them is no safetensors file.
    """
    return sum(_parameters(file) for file in weights)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        raise BuildError(f"{path}: no config.json; this is not the folder of a Hugging Face checkpoint")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{file}: cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise BuildError(f"{file}: no model_type; fetch the checkpoint again")
    if config.get("auto_map"):
        raise BuildError(
            f"{file}: auto_map says that the model brings code of its own, which a build never runs;"
            " use a checkpoint of a family that Transformers knows"
        )
    architectures = config.get("architectures") or []
    if not any(str(name).endswith("ForCausalLM") for name in architectures):
        named = ", ".join(map(str, architectures)) or "none"
        raise BuildError(
            f"{file}: not a causal language model (architectures: {named}, needed: ...ForCausalLM)"
        )
    return config


def read_tensors(file: Path) -> dict[str, Any]:
    """Tensor name -> ``dtype``, ``shape`` and offsets, from the header of a safetensors file.

    Raises:
        BuildError: It is no safetensors file.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        if not all(all(isinstance(size, int) for size in tensor["shape"]) for tensor in tensors.values()):
            raise ValueError("shapes that are no numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{file}: not a safetensors file ({error}); fetch the checkpoint again") from error
    return tensors


def _parameters(file: Path) -> int:
    return sum(math.prod(tensor["shape"]) for tensor in read_tensors(file).values())


def hash_of(files: Sequence[Path]) -> str:
    """``sha256:...`` over names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
