# SPDX-License-Identifier: Apache-2.0
"""``quorum build``: checkpoints become what a runtime serves."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from quorum.build import build_openvino
from quorum.build.compile import compile_engine
from quorum.build.quantise import quantise_steps
from quorum.build.trtllm import BuildSteps, Step, Tools, engine_build_steps
from quorum.cli.console import CommandError, JsonOption, friendly, note, out, print_json, spec_of
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.runtimes.options import EngineOptions, OpenVinoOptions, TensorRtLlmOptions

_TOOLS = Tools()
_BUILD_PYTHON = Path(".venv-build/bin/python")
_NEEDS_NO_BUILD = {
    "tensorrt_llm": "the LLM API loads the checkpoint itself",
    "hf": "Transformers loads the checkpoint itself",
    "replay": "it answers from recorded votes",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(build)


@friendly
def build(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT|MEMBER]",
            help="Folder of a Hugging Face checkpoint; or, with --spec, a member (default: all of them).",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="For a checkpoint: folder to make, for `options.model`."),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", "--deploy", "-d", help="Build members of this deployment.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --spec: print every command, run none.")
    ] = False,
    weight_format: Annotated[
        str, typer.Option(help="For a checkpoint, precision of the weights: fp32, fp16, int8 or int4.")
    ] = "int8",
    python: Annotated[
        str | None,
        typer.Option(
            help="Python of the build environment (`make build-env`), or, with --spec, TensorRT-LLM's."
        ),
    ] = None,
    examples: Annotated[
        Path, typer.Option(help="With --spec: TensorRT-LLM's folder of examples.")
    ] = _TOOLS.examples,
    calibration: Annotated[
        str, typer.Option(help="With --spec: dataset for quantisation, a folder or a Hugging Face name.")
    ] = _TOOLS.calibration,
    force: Annotated[
        bool, typer.Option("--force", help="For a checkpoint: replace OUT if it exists.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Turn checkpoints into what a runtime serves.

    A checkpoint and a folder: what the `openvino` runtime serves, on a CPU. With --spec, inside the Triton
    container on the GPU that will serve: compiled engines for members of runtime `engine`, and quantised
    checkpoints for members of `tensorrt_llm` whose `model` ends in `-fp8` or the like. A build that was
    interrupted goes on where it stopped; one that is done is recognised.

    Example: `quorum build ~/checkpoints/Qwen2.5-0.5B-Instruct models/qwen`

    Example: `quorum build llama --spec deploy.engine.yaml --dry-run`
    """
    if spec is not None:
        if target is not None:
            raise CommandError(
                "OUT and --spec: the deployment says where a member's engine goes; leave OUT out"
            )
        tools = Tools(examples, python or _TOOLS.python, calibration=calibration)
        _members(spec_of(spec), what, tools, dry_run, json)
    elif what is None or target is None:
        raise CommandError("name a checkpoint and a folder to make, or a deployment with --spec")
    elif dry_run:
        raise CommandError("--dry-run goes with --spec; a checkpoint is built by one exporter call")
    else:
        _openvino(Path(what), target, weight_format, Path(python) if python else _BUILD_PYTHON, force, json)


def _members(spec: Deployment, name: str | None, tools: Tools, dry_run: bool, json: bool) -> None:
    if name is not None and name not in spec.member_names:
        raise CommandError(f"{spec.path}: no member {name!r}; it has {', '.join(spec.member_names)}")
    chosen = [member for member in spec.members if name in (None, member.name)]
    report: dict[str, Any] = {}
    for member in chosen:
        steps = None
        if isinstance(member.options, EngineOptions):
            steps = engine_build_steps(member.name, member.options, spec.root, tools)
        elif isinstance(member.options, TensorRtLlmOptions):
            steps = quantise_steps(member.name, member.options, spec.root, tools)
        if steps:
            report[member.name] = _show(steps, json) if dry_run else _compile(steps, tools, json)
        else:
            why = _idle(member)
            report[member.name] = {"commands": [], "reason": why}
            if not json:
                note(f"{member.name}: nothing to build; {why}")
    if json:
        print_json(report)


def _idle(member: MemberSpec) -> str:
    if isinstance(member.options, OpenVinoOptions):
        return f"build its model with `quorum build CHECKPOINT {member.options.model}`"
    return _NEEDS_NO_BUILD.get(member.runtime, "its runtime needs none")


def _show(build: BuildSteps, json: bool) -> dict[str, Any]:
    if not json:
        for number, step in enumerate(build.steps, 1):
            note(Text(f"# {build.member}, step {number} of {len(build.steps)}: {step.name}", "dim"))
            out.print(shlex.join(step.command), soft_wrap=True, highlight=False, markup=False)
        note(Text(f"# then {build.fresh} moves to {build.engine}", "dim"))
    return {"commands": [list(step.command) for step in build.steps], "engine": str(build.engine)}


def _compile(build: BuildSteps, tools: Tools, json: bool) -> dict[str, Any]:
    def on_step(number: int, step: Step, done: bool) -> None:
        note(
            f"{build.member}, step {number + 1} of {len(build.steps)}: {step.name}{' (done)' if done else ''}"
        )

    manifest = compile_engine(
        build,
        tools,
        on_step=on_step,
        on_line=None if json else lambda line: note(Text(f"  {line}", "dim")),
    )
    if not json:
        note(f"built {build.engine} for {manifest.gpu} ({manifest.architecture})")
        if len(build.steps) > 1:
            note(
                f"{build.work} keeps the converted checkpoint for builds with other flags; remove it at will"
            )
    return asdict(manifest)


def _openvino(
    checkpoint: Path, target: Path, weight_format: str, python: Path, force: bool, json: bool
) -> None:
    formats: dict[str, Literal["fp32", "fp16", "int8", "int4"]] = {
        "fp32": "fp32",
        "fp16": "fp16",
        "int8": "int8",
        "int4": "int4",
    }
    if weight_format not in formats:
        raise CommandError(f"--weight-format {weight_format!r}: use one of {', '.join(formats)}")
    note(f"building {target} from {checkpoint} ({weight_format}); this takes a minute")
    manifest = build_openvino(
        checkpoint,
        target,
        weight_format=formats[weight_format],
        python=python,
        force=force,
        on_line=None if json else lambda line: note(Text(f"  {line}", "dim")),
    )
    if json:
        print_json(asdict(manifest))
        return
    note(
        f"built {target}. To serve it, put this into deploy.yaml under `members:` and run `quorum render`:\n"
    )
    note(f"  - name: {target.name.lower()}\n    runtime: openvino\n    options: {{model: {target}}}")
