# SPDX-License-Identifier: Apache-2.0
"""Run the commands of :mod:`quorum.build.trtllm` and ``quantise``, skipping finished ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from quorum.build.checkpoint import BuildError, Checkpoint, hash_of, inspect_checkpoint
from quorum.build.command import check_space, move_into_place, package_versions, run_command
from quorum.build.manifest import EngineManifest, read_engine_manifest
from quorum.build.trtllm import BuildSteps, Step, Tools
from quorum.hardware import Gpu, find_gpus

_SLACK_BYTES = 256 << 20


class Machine(NamedTuple):
    """The machine that an engine is built on: its first GPU, versions, and the Triton container's release."""

    gpu: Gpu
    tensorrt: str
    tensorrt_llm: str
    container: str


def find_machine(tools: Tools) -> Machine:
    """Find this machine's GPU and versions; raises BuildError without a GPU or TensorRT-LLM."""
    gpus = find_gpus()
    if not gpus:
        raise BuildError(
            "no GPU here (no nvidia-smi): trtllm-build times kernels on the GPU that the engine is for;"
            " build there, or look at the commands with --dry-run"
        )
    try:
        versions = package_versions(tools.python, ("tensorrt_llm", "tensorrt"))
        tensorrt, tensorrt_llm = versions["tensorrt"], versions["tensorrt_llm"]
        if not tensorrt or not tensorrt_llm:
            raise ValueError("not installed there")
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise BuildError(
            f"{tools.python} has no tensorrt_llm ({error}); build inside the container that serves, see"
            " docs/guides/gpu.md, or name its interpreter with --python"
        ) from error
    container = os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "")
    return Machine(gpus[0], tensorrt, tensorrt_llm, container)


def compile_engine(
    build: BuildSteps,
    tools: Tools,
    *,
    on_step: Callable[[int, Step, bool], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> EngineManifest:
    """Build a member's engine, resuming an earlier build; as :func:`quorum.operations.build.build_member`."""
    tell = on_step or (lambda *_: None)
    machine = find_machine(tools)
    checkpoint = inspect_checkpoint(build.checkpoint)
    fingerprints = list(_fingerprints(build, machine, checkpoint))
    if manifest := _built(build, fingerprints[-1]):
        for number, step in enumerate(build.steps):
            tell(number, step, True)
        return manifest
    build.work.mkdir(parents=True, exist_ok=True)
    finished = _finished(build, fingerprints)
    needed = sum(step.space for step in build.steps[finished:]) + _SLACK_BYTES
    check_space(build.work, needed, f"building {build.member}", "name an `engine` folder on another disk")
    for number, step in enumerate(build.steps):
        tell(number, step, number < finished)
        if number >= finished:
            _run(step, on_line)
            _stamp(build, number).write_text(fingerprints[number] + "\n", "ascii")
    for name in build.carries:
        if (build.checkpoint / name).is_file() and not (build.fresh / name).exists():
            shutil.copy(build.checkpoint / name, build.fresh / name)
    manifest = _manifest(build, machine, checkpoint, fingerprints[-1])
    manifest.write(build.fresh)
    _replace_engine(build)
    return manifest


def _fingerprints(build: BuildSteps, machine: Machine, checkpoint: Checkpoint) -> Iterator[str]:
    """One fingerprint per step, over its inputs and all earlier steps."""
    base = [checkpoint.hash, machine.tensorrt, machine.tensorrt_llm, machine.gpu.architecture]
    digest = hashlib.sha256(json.dumps(base).encode())
    for step in build.steps:
        digest.update(json.dumps(step.command).encode())
        for folder in step.reads:
            digest.update(hash_of(sorted(path for path in folder.glob("*") if path.is_file())).encode())
        yield f"sha256:{digest.hexdigest()}"


def _built(build: BuildSteps, fingerprint: str) -> EngineManifest | None:
    """The manifest of the engine if it is complete and of these inputs."""
    outputs = [path for step in build.steps for path in step.makes if path.is_relative_to(build.fresh)]
    if not all((build.engine / path.relative_to(build.fresh)).is_file() for path in outputs):
        return None
    try:
        manifest = read_engine_manifest(build.engine)
    except BuildError:
        return None
    return manifest if manifest.fingerprint == fingerprint else None


def _stamp(build: BuildSteps, number: int) -> Path:
    return build.work / f"step-{number + 1}.done"


def _finished(build: BuildSteps, fingerprints: list[str]) -> int:
    """Count the first steps that are done for these commands and inputs; remove the rest."""

    def is_done(number: int) -> bool:
        stamp = _stamp(build, number)
        same = stamp.is_file() and stamp.read_text("ascii").strip() == fingerprints[number]
        return same and all(path.is_file() for path in build.steps[number].makes)

    count = len(list(takewhile(is_done, range(len(build.steps)))))
    for number in range(count, len(build.steps)):
        _stamp(build, number).unlink(missing_ok=True)
    if count == 0:
        shutil.rmtree(build.work / "checkpoint", ignore_errors=True)
    if not any(path.is_relative_to(build.fresh) for step in build.steps[:count] for path in step.makes):
        shutil.rmtree(build.fresh, ignore_errors=True)
    return count


def _run(step: Step, on_line: Callable[[str], None] | None) -> None:
    try:
        code, output = run_command(step.command, on_line)
    except OSError as error:
        raise BuildError(
            f"{step.name}: {step.command[0]} cannot be started ({error.strerror}); build inside the container"
            " that serves, see docs/guides/gpu.md"
        ) from error
    if code:
        raise BuildError(
            f"{step.name}: {step.command[0]} failed (exit code {code}). Finished steps stay:"
            f" fix it, build again. Its last lines:\n{output}"
        )
    missing = [str(path) for path in step.makes if not path.is_file()]
    if missing:
        raise BuildError(f"{step.name}: the program ended well but did not write {', '.join(missing)}")


def _manifest(
    build: BuildSteps, machine: Machine, checkpoint: Checkpoint, fingerprint: str
) -> EngineManifest:
    return EngineManifest(
        checkpoint=build.checkpoint.name,
        checkpoint_hash=checkpoint.hash,
        family=checkpoint.family,
        architecture=machine.gpu.architecture,
        gpu=machine.gpu.name,
        tensorrt=machine.tensorrt,
        tensorrt_llm=machine.tensorrt_llm,
        container=machine.container,
        tensor_parallel=build.tensor_parallel,
        flags=build.flags,
        commands=tuple(step.command for step in build.steps),
        guided=build.guided,
        lora=build.lora,
        fingerprint=fingerprint,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _replace_engine(build: BuildSteps) -> None:
    old = build.work / "old-engine"
    shutil.rmtree(old, ignore_errors=True)
    build.engine.parent.mkdir(parents=True, exist_ok=True)
    move_into_place(build.fresh, build.engine, old)
    shutil.rmtree(old, ignore_errors=True)
    for stamp in build.work.glob("step-*.done"):
        # The converted checkpoint stays for builds with other flags; the engine was moved.
        if stamp != _stamp(build, 0) or len(build.steps) == 1:
            stamp.unlink()
