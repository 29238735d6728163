# SPDX-License-Identifier: Apache-2.0
"""Check a deployment against the machine before Triton starts, for errors that would only show at load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from quorum.build.checkpoint import BuildError, read_json
from quorum.build.manifest import MANIFEST, EngineManifest, read_engine_manifest
from quorum.build.quantise import quantise_steps
from quorum.build.trtllm import Tools
from quorum.build.versions import PINNED
from quorum.capacity.plan import plan_memory
from quorum.capacity.torch_memory import gpu_of
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import Gpu, GpuError, find_gpus
from quorum.repository.encoder_config import encoders
from quorum.runtimes.engine_names import TOKENIZER_INFO
from quorum.runtimes.options import EngineOptions, GpuOptions, TensorRtLlmOptions


@dataclass(slots=True)
class Preflight:
    """Problems that would stop the start, notes on what could not be checked, and the checked members."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)


def _version_of(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def preflight(
    spec: Deployment,
    *,
    gpus: Sequence[Gpu] | None = None,
    installed: str | None = None,
    torch: str | None = None,
    loaded: Sequence[Sequence[MemberSpec]] | None = None,
) -> Preflight:
    """Check a deployment's GPU members.

    ``loaded``: the members of each LLM that is loaded, by default those of the deployment, each once. GPUs
    and the versions of TensorRT-LLM (``installed``) and PyTorch, are looked up unless given.
    """
    report = Preflight()
    sees_gpus = not (torch or _version_of("torch") or "").endswith("+cpu")
    llms = [member for member in spec.members if isinstance(member.options, GpuOptions)]
    bound = [member for member in spec.members if gpu_of(member.options, auto=False) is not None]
    free = [member for member in spec.members if sees_gpus and gpu_of(member.options) is not None]
    inner = encoders(spec).values()
    needing = [member.name for member in spec.members if member in (*llms, *bound, *inner)]
    if not (needing or free):
        return report
    version = installed or _version_of("tensorrt_llm")
    missing = _missing_libraries(llms, bound, version, sees_gpus)
    report.problems += [f"{spec.path}: {problem}" for problem in missing]
    available = _gpus_here(spec, needing, gpus, report)
    if not available:
        report.checked = needing
        return report
    report.checked = [member.name for member in spec.members if member in (*llms, *bound, *inner, *free)]
    report.notes += _old_drivers(available) if llms else []
    checks: list[Iterator[str]] = []
    for member in llms:
        if isinstance(member.options, EngineOptions):
            checks.append(_engine_problems(spec, member.name, member.options, available, version, report))
        elif isinstance(member.options, TensorRtLlmOptions):
            checks.append(_checkpoint_problems(spec, member.name, member.options))
    checks.append(_memory_problems(spec, available, report, sees_gpus, loaded))
    for check in checks:
        try:
            report.problems += [f"{spec.path}: {problem}" for problem in check]
        except BuildError as error:
            report.problems.append(f"{spec.path}: {error}")
    return report


def _missing_libraries(
    llms: Sequence[MemberSpec], bound: Sequence[MemberSpec], version: str | None, sees_gpus: bool
) -> Iterator[str]:
    if llms and version is None:
        yield (
            f"{_named(llms)}: TensorRT-LLM is not installed here; serve in {PINNED.image}"
            " (docs/guides/gpu.md), or choose a runtime that needs none"
        )
    if bound and not sees_gpus:
        yield (
            f"{_named(bound)}: PyTorch here is the build for CPUs; `QUORUM_TORCH=cuda make setup-hf`, or put"
            " `device: cpu`"
        )


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


def _memory_problems(
    spec: Deployment,
    gpus: Sequence[Gpu],
    report: Preflight,
    sees_gpus: bool,
    loaded: Sequence[Sequence[MemberSpec]] | None,
) -> Iterator[str]:
    plan = plan_memory(spec, gpus, pytorch_sees_gpus=sees_gpus, loaded=loaded)
    report.notes += plan.notes
    fixes = f" Would fit: {'; '.join(plan.fixes)}" if plan.fixes else ""
    for problem in plan.problems:
        yield f"{problem}.{fixes}"


def _checkpoint_problems(spec: Deployment, member: str, options: TensorRtLlmOptions) -> Iterator[str]:
    """Problem of a quantised checkpoint that `quorum build` has not made yet."""
    build = quantise_steps(member, options, spec.root, Tools())
    if build and not build.engine.is_dir():
        yield (
            f"member {member}: {build.engine} is not there yet; make it of {build.checkpoint.name}:"
            f" `quorum build {member} --spec {spec.path}`"
        )


def _engine_problems(
    spec: Deployment,
    member: str,
    options: EngineOptions,
    gpus: Sequence[Gpu],
    version: str | None,
    report: Preflight,
) -> Iterator[str]:
    folder = spec.root / options.engine
    where = f"member {member}: {folder}: "
    again = f"build it again here: `quorum build {member} --spec {spec.path}`"
    if not (folder / "config.json").is_file():
        yield f"{where}no engine there; {again}"
    elif not (folder / MANIFEST).is_file():
        report.notes.append(
            f"{spec.path}: {where}no {MANIFEST}, so not built by `quorum build`: its GPU architecture is not"
            " checked"
        )
        with contextlib.suppress(BuildError):
            made_by = str(read_json(folder / "config.json", dict[str, Any]).get("version", ""))
            yield from (where + problem for problem in _other_version(made_by, version, again))
    else:
        try:
            manifest = read_engine_manifest(folder)
        except BuildError as error:
            raise BuildError(f"member {member}: {error}") from error
        own = [gpu for gpu in gpus if gpu.index in (options.gpus or range(manifest.tensor_parallel))]
        found = [*_misfits(manifest, own, again), *_other_version(manifest.tensorrt_llm, version, again)]
        found += _outgrown(manifest, options, folder, again)
        yield from (where + problem for problem in found)


def _misfits(manifest: EngineManifest, own: Sequence[Gpu], again: str) -> Iterator[str]:
    """Problem of an engine that was built for another architecture."""
    for gpu in [gpu for gpu in own if gpu.architecture != manifest.architecture][:1]:
        yield (
            f"built for {manifest.architecture} ({manifest.gpu}), GPU {gpu.index} here is {gpu.architecture}"
            f" ({gpu.name}); an engine runs on its own architecture only; {again}"
        )


def _other_version(made_by: str, version: str | None, again: str) -> Iterator[str]:
    if version and made_by and made_by != version:
        yield (
            f"built by TensorRT-LLM {made_by}, here is {version}, which refuses it; {again}, or serve in the"
            " container that it was built in"
        )


def _outgrown(manifest: EngineManifest, options: EngineOptions, folder: Path, again: str) -> Iterator[str]:
    """Problems of an engine that is smaller than ``deploy.yaml`` sets."""
    for key in ("max_batch_size", "max_num_tokens", "max_seq_len"):
        size = getattr(options, key)
        built = manifest.flags.get(f"--{key}", "")
        if size and built.isdecimal() and size > int(built):
            yield f"built for {key} {built}, deploy says {size}; lower it, or {again}"
    parallel = options.tensor_parallel
    if parallel != manifest.tensor_parallel:
        yield f"built for {manifest.tensor_parallel} GPUs, deploy says {parallel}; {again}"
    if options.guided and not (folder / TOKENIZER_INFO).is_file():
        yield (
            f"no {TOKENIZER_INFO}, without which guided decoding is silently off; {again}, or put"
            " `guided: false`"
        )
    lora = options.lora
    if lora and lora.title not in manifest.lora:
        yield f"built without the adapter {lora.title!r}; {again}"
