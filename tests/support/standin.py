# SPDX-License-Identifier: Apache-2.0
"""Servers whose Python models see the stand-in for TensorRT-LLM in tests/standin, and models for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorum.server.install import Install
from quorum_bench.gpu import standin

ROOT = Path(__file__).parents[2]
STANDIN = ROOT / "tests" / "standin"
MODELS = ROOT / "examples" / "demo" / "models"


def install(folder: Path) -> Install:
    """The server here, with an environment made in ``folder``."""
    return standin.install(folder, STANDIN)


def copy_model(demo: str, folder: Path) -> Path:
    """A demo model of its own, so that its faults and its log are its own."""
    shutil.copytree(MODELS / demo, folder)
    return folder


def set_fault(model: Path, **faults: Any) -> None:
    """``construct`` or ``generate`` raise with that text, ``hang`` never answers; none: it behaves."""
    fresh = model / "standin.json.new"
    fresh.write_text(json.dumps(faults))
    fresh.replace(model / "standin.json")


def events(model: Path, kind: str) -> list[Mapping[str, Any]]:
    """What the stand-in was asked, of one kind: construct, generate, abort, cancelled, shutdown."""
    path = model / "standin.jsonl"
    # Its last line may be half written.
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.is_file() else []
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def write_adapter(folder: Path, rank: int = 8, modules: tuple[str, ...] = ("q_proj", "v_proj")) -> Path:
    """A PEFT adapter with its configuration and no tensors."""
    folder.mkdir(parents=True)
    config = {"r": rank, "target_modules": list(modules), "peft_type": "LORA", "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder
