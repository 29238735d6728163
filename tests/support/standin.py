# SPDX-License-Identifier: Apache-2.0
"""Servers whose Python models see the stand-in for TensorRT-LLM, and models for it.

The stub takes its packages from the ``python3`` on PATH and nothing else. So the server gets an interpreter
environment made for it alone, in a temporary folder, that adds tests/standin to this one's packages.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from quorum.server.install import Install, find_install

ROOT = Path(__file__).parents[2]
STANDIN = ROOT / "tests" / "standin"
MODELS = ROOT / "examples" / "demo" / "models"


class StandInInstall(Install):
    """A tritonserver whose Python models find the stand-in."""

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        environment["PATH"] = os.pathsep.join([str(self.scratch / "bin"), environment["PATH"]])
        return environment

    def prepare_backends(self, scratch: Path) -> Path:
        backends = super().prepare_backends(scratch)
        shutil.copytree(STANDIN / "tensorrtllm", backends / "tensorrtllm", dirs_exist_ok=True)
        return backends


def install(folder: Path) -> Install:
    """The server here, with an environment made in ``folder``."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", str(STANDIN)]
    (packages / "standin.pth").write_text("\n".join(lines) + "\n")
    found = find_install()
    made = StandInInstall(*(getattr(found, one.name) for one in fields(found)))
    object.__setattr__(made, "scratch", folder)
    return made


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
    lines = path.read_text().splitlines() if path.is_file() else []
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def write_adapter(folder: Path, rank: int = 8, modules: tuple[str, ...] = ("q_proj", "v_proj")) -> Path:
    """A PEFT adapter, as far as its configuration."""
    folder.mkdir(parents=True)
    config = {"r": rank, "target_modules": list(modules), "peft_type": "LORA", "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
