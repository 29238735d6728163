# SPDX-License-Identifier: Apache-2.0
"""Build the ``openvino`` runtime's model from a checkpoint: OpenVINO IR, tokenizer and manifest."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from quorum.build.checkpoint import BuildError, inspect_checkpoint, read_json
from quorum.build.command import check_space, move_into_place, package_versions, run_command
from quorum.build.manifest import write_json
from quorum.runtimes.tuned_prompt import CARD

WeightFormat = Literal["fp32", "fp16", "int8", "int4"]

MANIFEST = "quorum-build.json"
TESTED_FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
BUILD_PYTHON = Path(".venv-build/bin/python")
BUILD_PACKAGES = (
    "optimum-intel",
    "optimum",
    "transformers",
    "torch",
    "nncf",
    "openvino",
    "openvino-tokenizers",
)
BUILT_FILES = (
    "openvino_model.xml",
    "openvino_model.bin",
    "openvino_tokenizer.xml",
    "openvino_detokenizer.xml",
)
_SPACE_FACTOR = 3
_SPACE_SLACK_BYTES = 64 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildManifest:
    """The inputs of a built model; the content of ``quorum-build.json`` in its folder.

    Fields are those of :class:`quorum.build.manifest.EngineManifest`, and ``exporter``: package -> version in
    the build environment.
    """

    checkpoint: str
    checkpoint_hash: str
    family: str
    parameters: int
    weight_format: str
    exporter: Mapping[str, str]
    created: str
    runtime: str = "openvino"
    schema_version: Literal[1] = 1


def build_openvino(
    checkpoint: Path,
    out: Path,
    *,
    weight_format: WeightFormat,
    python: Path = BUILD_PYTHON,
    on_line: Callable[[str], None] | None = None,
    force: bool = False,
) -> BuildManifest:
    """Build a model for the ``openvino`` runtime from a local checkpoint, offline; returns its manifest.

    The exporter (optimum-intel) runs as a process in the build environment. ``out`` appears complete or not
    at all.

    Args:
        checkpoint: Folder of a Hugging Face causal language model.
        out: Folder to create, with its parents.
        weight_format: How to store weights.
        python: Interpreter of the build environment.
        on_line: Called with every line that the exporter prints.
        force: Replace ``out`` where it exists; the old one stays until the new one is complete.

    Raises:
        BuildError: Something is missing, does not fit, or the exporter failed.
    """
    if weight_format not in get_args(WeightFormat):
        known = ", ".join(get_args(WeightFormat))
        raise BuildError(f"weight format {weight_format!r} is unknown; use one of {known}")
    if out.exists() and not force:
        raise BuildError(f"{out}: exists already; give another folder, or force the build to replace it")
    described = inspect_checkpoint(checkpoint)
    if described.family not in TESTED_FAMILIES:
        tested = ", ".join(TESTED_FAMILIES)
        log.warning(
            "%s: untested family %r (tested: %s); check its answers", checkpoint, described.family, tested
        )
    if len(python.parts) > 1:
        python = python.absolute()
    versions = exporter_versions(python)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed = _SPACE_FACTOR * described.weight_bytes + _SPACE_SLACK_BYTES
    check_space(out.parent, needed, f"a build of {checkpoint}", "build on another disk")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        fresh = Path(scratch, "new")
        _export(python, checkpoint, fresh, weight_format, on_line)
        manifest = BuildManifest(
            checkpoint=checkpoint.resolve().name,
            checkpoint_hash=described.hash,
            family=described.family,
            parameters=described.parameters,
            weight_format=weight_format,
            exporter=versions,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_json(fresh / MANIFEST, manifest)
        if (checkpoint / CARD).is_file():
            # Says what prompts a tuned checkpoint answers; the runtime compares them with its own.
            shutil.copy(checkpoint / CARD, fresh / CARD)
        move_into_place(fresh, out, Path(scratch, "old"))
    return manifest


def read_manifest(folder: Path) -> BuildManifest:
    """Read the manifest of a built model; raises BuildError if there is none, or one of another schema."""
    return read_json(folder / MANIFEST, BuildManifest, "build the model again with `quorum build`")


def exporter_versions(python: Path) -> dict[str, str]:
    """Versions of the exporter's packages that ``python`` has; raises BuildError if it lacks one or fails."""
    advice = "run `make build-env`, or name the interpreter of another build environment"
    try:
        versions = package_versions(str(python), BUILD_PACKAGES, _environment())
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise BuildError(
            f"{python}: the build environment's Python does not run ({error}); {advice}"
        ) from error
    missing = [name for name in BUILD_PACKAGES if not versions.get(name)]
    if missing:
        raise BuildError(f"{python}: {', '.join(missing)} not installed there; {advice}")
    return {name: version for name, version in versions.items() if version}


def _environment() -> dict[str, str]:
    # CI=true turns openvino-telemetry off, the only package that calls home.
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "CI": "true",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # the folder it runs in holds checkpoints, no modules
    }


def _export(
    python: Path, checkpoint: Path, out: Path, weight_format: str, on_line: Callable[[str], None] | None
) -> None:
    # Run in its parent folder: the exporter writes the given path into the model.
    folder = checkpoint.resolve()
    command = [str(python), "-m", "optimum.commands.optimum_cli", "export", "openvino"]
    command += ["--model", f"./{folder.name}", "--task", "text-generation-with-past"]
    command += ["--weight-format", weight_format, str(out.resolve())]
    code, output = run_command(command, on_line, env=_environment(), cwd=folder.parent)
    if code:
        raise BuildError(f"{checkpoint}: the exporter failed (exit code {code}); its last lines:\n{output}")
    missing = [name for name in BUILT_FILES if not (out / name).is_file()]
    if missing:
        raise BuildError(
            f"{checkpoint}: the exporter ended well but did not write {', '.join(missing)};"
            " is its tokenizer one that OpenVINO Tokenizers can convert?"
        )
