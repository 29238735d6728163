# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of :mod:`quorum.build.trtllm` and ``quantise``; finished ones are recognised."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from quorum.build.checkpoint import BuildError, Checkpoint, hash_of, inspect_checkpoint
from quorum.build.command import run_command
from quorum.build.manifest import EngineManifest, read_engine_manifest
from quorum.build.trtllm import BuildSteps, Step, Tools
from quorum.hardware import Gpu, find_gpus

_SLACK_BYTES = 256 << 20
_VERSIONS = """
import importlib.metadata as metadata, json
print(json.dumps({name: metadata.version(name) for name in ("tensorrt_llm", "tensorrt")}))
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where an engine is built.

    Attributes:
        gpu: Its first GPU.
        tensorrt: Version of TensorRT.
        tensorrt_llm: Version of TensorRT-LLM.
        container: Release of the Triton container; empty outside of one.
    """

    gpu: Gpu
    tensorrt: str
    tensorrt_llm: str
    container: str


def find_machine(tools: Tools) -> Machine:
    """What builds here.

    Raises:
        BuildError: There is no GPU, or no TensorRT-LLM.
    """
    gpus = find_gpus()
    if not gpus:
        raise BuildError(
            "no GPU here (no nvidia-smi): trtllm-build times kernels on the GPU that the engine is for;"
            " build there, or look at the commands with --dry-run"
        )
    try:
        done = subprocess.run([tools.python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise BuildError(
            f"{tools.python} has no tensorrt_llm ({error}); build inside the container that serves, see"
            " docs/guides/gpu.md, or name its interpreter with --python"
        ) from error
    container = os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "")
    return Machine(gpus[0], found["tensorrt"], found["tensorrt_llm"], container)


def compile_engine(
    build: BuildSteps,
    tools: Tools,
    *,
    on_step: Callable[[int, Step, bool], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> EngineManifest:
    """Build a member's engine, going on where an earlier build stopped.

    Args:
        build: What to run.
        tools: Where the programs lie.
        on_step: Told each step's number, the step, and whether it was done already.
        on_line: Called with every line that a program prints.

    Returns:
        The manifest, as written beside the engine.

    Raises:
        BuildError: Something is missing, does not fit, or a program failed.
    """
    machine = find_machine(tools)
    checkpoint = inspect_checkpoint(build.checkpoint)
    fingerprints = list(_fingerprints(build, machine, checkpoint))
    if _is_built(build, fingerprints[-1]):
        for number, step in enumerate(build.steps):
            if on_step:
                on_step(number, step, True)
        return read_engine_manifest(build.engine)
    build.work.mkdir(parents=True, exist_ok=True)
    done = _finished(build, fingerprints)
    _check_space(build, done)
    for number, step in enumerate(build.steps):
        if on_step:
            on_step(number, step, number < done)
        if number >= done:
            _run(step, on_line)
            _stamp(build, number).write_text(fingerprints[number] + "\n", "ascii")
    manifest = _manifest(build, machine, checkpoint, fingerprints[-1])
    for name in build.carries:
        if (build.checkpoint / name).is_file() and not (build.fresh / name).exists():
            shutil.copy(build.checkpoint / name, build.fresh / name)
    manifest.write(build.fresh)
    _move_into_place(build)
    return manifest


def _fingerprints(build: BuildSteps, machine: Machine, checkpoint: Checkpoint) -> Iterator[str]:
    """One per step, each over everything that came before it."""
    base = [checkpoint.hash, machine.tensorrt, machine.tensorrt_llm, machine.gpu.architecture]
    so_far = hashlib.sha256(json.dumps(base).encode())
    for step in build.steps:
        so_far.update(json.dumps(step.command).encode())
        for folder in step.reads:
            so_far.update(hash_of(sorted(path for path in folder.glob("*") if path.is_file())).encode())
        yield f"sha256:{so_far.hexdigest()}"


def _is_built(build: BuildSteps, fingerprint: str) -> bool:
    try:
        same = read_engine_manifest(build.engine).fingerprint == fingerprint
    except BuildError:
        return False
    made = [path for step in build.steps for path in step.makes if path.is_relative_to(build.fresh)]
    return same and all((build.engine / path.relative_to(build.fresh)).is_file() for path in made)


def _stamp(build: BuildSteps, number: int) -> Path:
    return build.work / f"step-{number + 1}.done"


def _finished(build: BuildSteps, fingerprints: list[str]) -> int:
    """How many of the first steps are done for these very commands and inputs; the rest is cleared away."""
    count = 0
    for number, step in enumerate(build.steps):
        stamp = _stamp(build, number)
        same = stamp.is_file() and stamp.read_text("ascii").strip() == fingerprints[number]
        if not same or not all(path.is_file() for path in step.makes):
            break
        count += 1
    for number in range(count, len(build.steps)):
        _stamp(build, number).unlink(missing_ok=True)
    if count == 0:
        shutil.rmtree(build.work / "checkpoint", ignore_errors=True)
    if not any(path.is_relative_to(build.fresh) for step in build.steps[:count] for path in step.makes):
        shutil.rmtree(build.fresh, ignore_errors=True)
    return count


def _check_space(build: BuildSteps, done: int) -> None:
    needed = sum(step.space for step in build.steps[done:]) + _SLACK_BYTES
    free = shutil.disk_usage(build.work).free
    if free < needed:
        raise BuildError(
            f"{build.work}: {free / 1e9:.1f} GB free, building {build.member} may need {needed / 1e9:.1f} GB;"
            " free some, or name an `engine` folder on another disk"
        )


def _run(step: Step, on_line: Callable[[str], None] | None) -> None:
    try:
        code, said = run_command(step.command, on_line)
    except OSError as error:
        raise BuildError(
            f"{step.name}: {step.command[0]} cannot be started ({error.strerror}); build inside the container"
            " that serves, see docs/guides/gpu.md"
        ) from error
    if code:
        raise BuildError(
            f"{step.name}: {step.command[0]} failed (exit code {code}). What is finished stays:"
            f" mend it, build again. It last said:\n{said}"
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


def _move_into_place(build: BuildSteps) -> None:
    old = build.work / "old-engine"
    shutil.rmtree(old, ignore_errors=True)
    build.engine.parent.mkdir(parents=True, exist_ok=True)
    if build.engine.exists():
        build.engine.rename(old)
    try:
        build.fresh.rename(build.engine)
    except OSError:
        if old.exists():
            old.rename(build.engine)
        raise
    shutil.rmtree(old, ignore_errors=True)
    for stamp in build.work.glob("step-*.done"):
        # The checkpoint stays for another build with other flags; the engine has gone to its place.
        if stamp != _stamp(build, 0) or len(build.steps) == 1:
            stamp.unlink()
