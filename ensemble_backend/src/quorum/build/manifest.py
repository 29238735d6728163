# SPDX-License-Identifier: Apache-2.0
"""Read and write the manifest of a compiled engine: its inputs, and the GPU and versions it runs on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from quorum.build.checkpoint import read_json

MANIFEST = "quorum-engine.json"


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """The content of ``quorum-engine.json`` in the engine's folder.

    Attributes:
        checkpoint: Name of the checkpoint's folder.
        checkpoint_hash: See :class:`quorum.build.checkpoint.Checkpoint`.
        family: ``model_type`` of the checkpoint.
        architecture: Of the GPU it was built on, e.g. ``sm_90``; it runs on no other.
        container: Release of the Triton container, e.g. ``26.07``; empty outside of one.
        tensor_parallel: Number of GPUs.
        flags: Flags of ``trtllm-build`` -> their values.
        commands: Every command that was run, with its arguments.
        guided: Whether ``xgrammar_tokenizer_info.json`` exists.
        lora: Name -> folder of its adapters, relative to the engine.
        fingerprint: Of all inputs of the build; an engine with the same one is not built again.
        created: ISO 8601, UTC.
    """

    checkpoint: str
    checkpoint_hash: str
    family: str
    architecture: str
    gpu: str
    tensorrt: str
    tensorrt_llm: str
    container: str
    tensor_parallel: int
    flags: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]
    guided: bool
    lora: Mapping[str, str]
    fingerprint: str
    created: str
    schema_version: Literal[1] = 1

    def write(self, folder: Path) -> None:
        """Write the manifest into the engine's folder."""
        write_json(folder / MANIFEST, self)


def write_json(file: Path, manifest: Any) -> None:
    """Write a dataclass as JSON."""
    file.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read_engine_manifest(folder: Path) -> EngineManifest:
    """Read the manifest of an engine; raises BuildError where there is none, or one of another schema."""
    advice = "build the engine with `quorum build MEMBER --spec FILE`"
    return read_json(folder / MANIFEST, EngineManifest, advice)
