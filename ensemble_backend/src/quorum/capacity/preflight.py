# SPDX-License-Identifier: Apache-2.0
"""Check a deployment against the machine before Triton starts, for errors that would only show at load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from quorum.build.checkpoint import BuildError
from quorum.build.manifest import MANIFEST, EngineManifest, read_engine_manifest
from quorum.build.quantise import quantise_steps
from quorum.build.trtllm import Tools
from quorum.build.versions import PINNED
from quorum.capacity.plan import plan_memory
from quorum.capacity.torch_memory import gpu_of
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import Gpu, GpuError, find_gpus
from quorum.runtimes.engine_names import TOKENIZER_INFO
from quorum.runtimes.options import EngineOptions, GpuOptions, TensorRtLlmOptions


@dataclass(slots=True)
class Preflight:
    """Findings of the check.

    Attributes:
        problems: Why the deployment would not start; empty when it would.
        notes: Checks that were not possible, and remarks.
        checked: Members that were checked.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)


def version_of(package: str) -> str | None:
    """The installed version of a package; ``None`` where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def preflight(
    spec: Deployment,
    *,
    gpus: Sequence[Gpu] | None = None,
    installed: str | None = None,
    torch: str | None = None,
) -> Preflight:
    """Check a deployment's GPU members.

    Args:
        spec: The deployment.
        gpus: The GPUs; by default from ``nvidia-smi``.
        installed: Version of TensorRT-LLM; looked up by default.
        torch: Version of PyTorch; looked up by default.
    """
    report = Preflight()
    sees_gpus = not (torch or version_of("torch") or "").endswith("+cpu")
    llms = [member for member in spec.members if isinstance(member.options, GpuOptions)]
    bound = [member for member in spec.members if gpu_of(member.options, auto=False) is not None]
    free = [member for member in spec.members if sees_gpus and gpu_of(member.options) is not None]
    needing = [member.name for member in spec.members if member in llms or member in bound]
    if not (needing or free):
        return report
    version = installed or version_of("tensorrt_llm")
    report.problems += _missing_libraries(spec, llms, bound, version, sees_gpus)
    available = _gpus_here(spec, needing, gpus, report)
    if not available:
        report.checked = needing
        return report
    report.checked = [member.name for member in spec.members if member in (*llms, *bound, *free)]
    report.notes += _old_drivers(available) if llms else []
    for member in llms:
        if isinstance(member.options, EngineOptions):
            _check_engine(spec, member.name, member.options, available, version, report)
        elif isinstance(member.options, TensorRtLlmOptions):
            _check_checkpoint(spec, member.name, member.options, report)
    _check_memory(spec, available, report, sees_gpus)
    return report


def _missing_libraries(
    spec: Deployment,
    llms: Sequence[MemberSpec],
    bound: Sequence[MemberSpec],
    version: str | None,
    sees_gpus: bool,
) -> list[str]:
    problems = []
    if llms and version is None:
        problems.append(
            f"{spec.path}: {_named(llms)}: TensorRT-LLM is not installed here; serve in {PINNED.image}"
            " (docs/guides/gpu.md), or choose a runtime that needs none"
        )
    if bound and not sees_gpus:
        problems.append(
            f"{spec.path}: {_named(bound)}: PyTorch here is the build for CPUs; `QUORUM_TORCH=cuda make"
            " setup-hf`, or put `device: cpu`"
        )
    return problems


def _named(members: Sequence[MemberSpec]) -> str:
    return ", ".join(member.name for member in members)


def _gpus_here(
    spec: Deployment, needing: Sequence[str], gpus: Sequence[Gpu] | None, report: Preflight
) -> list[Gpu]:
    """Find the GPUs; reports a problem where members need one and there is none."""
    try:
        available = list(find_gpus() if gpus is None else gpus)
    except GpuError as error:
        (report.problems if needing else report.notes).append(str(error))
        return []
    if needing and not available:
        report.problems.append(
            f"{spec.path}: {', '.join(needing)}: no GPU here (no nvidia-smi); in a container start it with"
            " --gpus all, or plan for another machine with `quorum plan`"
        )
    return available


def _old_drivers(gpus: Sequence[Gpu]) -> list[str]:
    """Notes on old drivers; data-centre GPUs run newer CUDA on them by a compatibility package."""

    def number(version: str) -> list[int]:
        return [int(part) for part in version.split(".") if part.isdecimal()]

    old = sorted({gpu.driver for gpu in gpus if gpu.driver and number(gpu.driver) < number(PINNED.driver)})
    return [
        f"driver {driver} is older than {PINNED.driver}, which CUDA {PINNED.cuda} of {PINNED.image} wants;"
        " newer CUDA on an older driver works on data-centre GPUs only"
        for driver in old
    ]


def _check_memory(spec: Deployment, gpus: Sequence[Gpu], report: Preflight, sees_gpus: bool) -> None:
    try:
        plan = plan_memory(spec, gpus, pytorch_sees_gpus=sees_gpus)
    except BuildError as error:
        report.problems.append(f"{spec.path}: {error}")
        return
    fixes = f" Would fit: {'; '.join(plan.fixes)}" if plan.fixes else ""
    report.problems += [f"{spec.path}: {problem}.{fixes}" for problem in plan.problems]
    report.notes += plan.notes


def _check_checkpoint(spec: Deployment, member: str, options: TensorRtLlmOptions, report: Preflight) -> None:
    """Report a quantised checkpoint that `quorum build` has not made yet."""
    try:
        build = quantise_steps(member, options, spec.root, Tools())
    except BuildError as error:
        report.problems.append(f"{spec.path}: {error}")
        return
    if build and not build.engine.is_dir():
        report.problems.append(
            f"{spec.path}: member {member}: {build.engine} is not there yet; make it of"
            f" {build.checkpoint.name}: `quorum build {member} --spec {spec.path}`"
        )


def _check_engine(
    spec: Deployment,
    member: str,
    options: EngineOptions,
    gpus: Sequence[Gpu],
    version: str | None,
    report: Preflight,
) -> None:
    folder = spec.root / options.engine
    again = f"build it again here: `quorum build {member} --spec {spec.path}`"
    where = f"{spec.path}: member {member}: {folder}"
    if not (folder / "config.json").is_file():
        report.problems.append(f"{where}: no engine there; {again}")
        return
    if not (folder / MANIFEST).is_file():
        report.notes.append(
            f"{where}: no {MANIFEST}, so not built by `quorum build`: its GPU architecture is not checked"
        )
        made_by = _version_in(folder)
        if version and made_by and made_by != version:
            report.problems.append(_other_version(where, made_by, version, again))
        return
    try:
        manifest = read_engine_manifest(folder)
    except BuildError as error:
        report.problems.append(f"{spec.path}: member {member}: {error}")
        return
    numbers = options.gpus or range(manifest.tensor_parallel)
    own = [gpu for gpu in gpus if gpu.index in numbers]
    report.problems += _misfits(where, manifest, own, version, again)
    report.problems += _outgrown(where, manifest, options, folder, again)


def _misfits(
    where: str, manifest: EngineManifest, gpus: Sequence[Gpu], version: str | None, again: str
) -> list[str]:
    """Problems of an engine that was built for another architecture or TensorRT-LLM."""
    problems = []
    others = [gpu for gpu in gpus if gpu.architecture != manifest.architecture]
    if others:
        problems.append(
            f"{where}: built for {manifest.architecture} ({manifest.gpu}), GPU {others[0].index} here is"
            f" {others[0].architecture} ({others[0].name}); an engine runs on its own architecture only;"
            f" {again}"
        )
    if version and manifest.tensorrt_llm != version:
        problems.append(_other_version(where, manifest.tensorrt_llm, version, again))
    return problems


def _other_version(where: str, made_by: str, version: str, again: str) -> str:
    return (
        f"{where}: built by TensorRT-LLM {made_by}, here is {version}, which refuses it; {again}, or serve"
        " in the container that it was built in"
    )


def _outgrown(
    where: str, manifest: EngineManifest, options: EngineOptions, folder: Path, again: str
) -> list[str]:
    """Problems of an engine that is smaller than ``deploy.yaml`` sets."""
    problems = []
    sizes = {
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens,
        "max_seq_len": options.max_seq_len,
    }
    for key, size in sizes.items():
        built = int(manifest.flags.get(f"--{key}", 0))
        if size and built and size > built:
            problems.append(f"{where}: built for {key} {built}, deploy says {size}; lower it, or {again}")
    parallel = options.tensor_parallel
    if parallel != manifest.tensor_parallel:
        problems.append(
            f"{where}: built for {manifest.tensor_parallel} GPUs, deploy says {parallel}; {again}"
        )
    if options.guided and not (folder / TOKENIZER_INFO).is_file():
        problems.append(
            f"{where}: no {TOKENIZER_INFO}, without which guided decoding is silently off; {again},"
            " or put `guided: false`"
        )
    lora = options.lora
    if lora and lora.title not in manifest.lora:
        problems.append(f"{where}: built without the adapter {lora.title!r}; {again}")
    return problems


def _version_in(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8")).get("version", ""))
    except (OSError, ValueError, AttributeError):
        return ""
