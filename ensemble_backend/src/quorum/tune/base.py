# SPDX-License-Identifier: Apache-2.0
"""Read what the folder of a base model says of itself: architecture, hash, licence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quorum_contract.errors import QuorumError

Architecture = Literal["encoder", "causal"]
_ENCODERS = frozenset(
    {
        *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("modernbert", "mpnet", "nomic_bert", "roberta", "xlm-roberta"),
    }
)
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_LICENCE_LINE = "license:"


class BaseModelError(QuorumError, ValueError):
    """A folder holds no base model that can be tuned; the message names the folder and the fix."""

    code = "BASE_MODEL_INVALID"


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk.

    Attributes:
        folder: In the format of transformers: ``config.json``, ``tokenizer.json``, weights.
        architecture: ``encoder`` (BERT and the like), or ``causal`` (an LLM that writes).
        model_type: As ``config.json`` names it.
        hash: ``sha256:...`` of configuration, tokenizer and weights.
        licence: As a model card or licence file of the folder states it; "" where none does.
    """

    folder: Path
    architecture: Architecture
    model_type: str
    hash: str
    licence: str


def read_base(folder: Path, architecture: Architecture | None = None) -> Base:
    """Read a folder in the format of transformers, without loading the model.

    Args:
        folder: Of the base model.
        architecture: The one needed; None: either.

    Raises:
        BaseModelError: A file is missing or cannot be read, or the architecture is another one.
    """
    if (folder / "encoder.json").is_file():
        raise BaseModelError(f"{folder}: this is a tuned encoder; name the base it was made from by --base")
    if (folder / "adapter_config.json").is_file():
        raise BaseModelError(f"{folder}: this is an adapter; name the base it was made from by --base")
    config = _config(folder)
    model_type = str(config.get("model_type", ""))
    found = _architecture(config, model_type)
    if found is None or (architecture and found != architecture):
        wanted = {"encoder": "an encoder such as BERT", "causal": "a causal LLM"}
        needed = wanted[architecture] if architecture else " or ".join(wanted.values())
        names = ", ".join(config.get("architectures") or []) or "no architecture"
        raise BaseModelError(
            f"{folder}: holds {model_type or names!r}, needed is {needed}; name another --base"
        )
    weights = [path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern))]
    if not weights:
        advice = "convert it first (transformers reads GGUF and writes a plain checkpoint by save_pretrained)"
        gguf = f": it is GGUF; {advice}" if any(folder.glob("*.gguf")) else "; complete the folder"
        raise BaseModelError(f"{folder}: has no weights (model.safetensors){gguf}")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise BaseModelError(f"{folder}: has no tokenizer.json; save the fast tokenizer of the model to it")
    digest = hashlib.sha256()
    for path in (folder / "config.json", tokenizer, *weights):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Base(folder, found, model_type, f"sha256:{digest.hexdigest()}", _licence(folder))


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Raise BaseModelError for whatever a library raises while it loads this file or folder of a base."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BaseModelError(
            f"{path}: cannot be loaded ({said:.200}); get the base model again, or name another --base"
        ) from error


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BaseModelError(
            f"{path}: {error.strerror}; name the folder of a base model by --base"
        ) from error
    except ValueError as error:
        raise BaseModelError(f"{path}: is no JSON ({error}); get the base model again") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{path}: is no JSON object; get the base model again")
    return config


def _architecture(config: dict[str, Any], model_type: str) -> Architecture | None:
    names = [str(name) for name in config.get("architectures") or []]
    if config.get("is_encoder_decoder"):
        return None
    if any(name.endswith("ForCausalLM") for name in names):
        return "causal"
    return "encoder" if model_type in _ENCODERS and not config.get("is_decoder") else None


def _licence(folder: Path) -> str:
    """The licence that the front matter of README.md states, else the first line of a licence file."""
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text("utf-8", errors="replace").splitlines()[:60]:
            if line.startswith(_LICENCE_LINE):
                return line.removeprefix(_LICENCE_LINE).strip()
    for path in sorted(path for path in folder.glob("LICEN[CS]E*") if path.is_file()):
        lines = path.read_text("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "")
    return ""
